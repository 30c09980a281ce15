//! Apache as a real server, as Debian's `apache2-bin` has it.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::process::Process;
use crate::{http, sandbox, wait};

/// Where Debian puts it.
const PROGRAM: &str = "/usr/sbin/apache2";
const MODULES: &str = "/usr/lib/apache2/modules";

/// A running Apache.
#[derive(Debug)]
pub struct Apache {
    process: Process,
    addresses: Vec<SocketAddr>,
}

impl Apache {
    /// Starts one on a host, which has these addresses. Its home page is `page`.
    pub fn start(host: &Host, addresses: &[SocketAddr], page: &str) -> Result<Self> {
        let root = Path::new(sandbox::DIRECTORY).join(host.name());
        let pages = root.join("pages");
        fs::create_dir_all(&pages).with_context(|| format!("cannot make {}", pages.display()))?;
        fs::write(pages.join("index.html"), format!("{page}\n")).context("cannot write a page")?;
        let file = root.join("apache2.conf");
        fs::write(&file, configuration(&root, host.name(), addresses))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(PROGRAM);
        command
            .arg("-DFOREGROUND")
            .arg("-d")
            .arg(&root)
            .arg("-f")
            .arg(&file);
        let process = Process::start(host, &format!("apache-{}", host.name()), &mut command)
            .context("is apache2-bin installed (scripts/setup lab)?")?;
        Ok(Self {
            process,
            addresses: addresses.into(),
        })
    }

    /// Waits until it answers a request of its own host at each address.
    pub fn wait_ready(&mut self, host: &Host, deadline: Duration) -> Result<()> {
        self.addresses.iter().try_for_each(|&address| {
            let what = format!("Apache on {} to answer at {address}", host.name());
            wait::until(deadline, &what, || match http::get(host, address) {
                Ok(page) if page.status == 200 => Ok(()),
                Ok(page) => Err(format!("status {}", page.status)),
                Err(error) => Err(format!("{error:#}")),
            })
            .with_context(|| self.process.log_tail(10))
        })
    }
}

/// The least that serves files, and keeps connections open as long as a lab lasts.
fn configuration(root: &Path, name: &str, addresses: &[SocketAddr]) -> String {
    let root = root.display();
    let mut listen = String::new();
    for address in addresses {
        let _ = writeln!(listen, "Listen {address}");
    }
    format!(
        "ServerName {name}
LoadModule mpm_event_module {MODULES}/mod_mpm_event.so
LoadModule authz_core_module {MODULES}/mod_authz_core.so
LoadModule dir_module {MODULES}/mod_dir.so
{listen}User www-data
Group www-data
PidFile {root}/apache2.pid
DefaultRuntimeDir {root}
ErrorLog /dev/stderr
DocumentRoot {root}/pages
DirectoryIndex index.html
KeepAlive On
KeepAliveTimeout 60
MaxKeepAliveRequests 0
StartServers 1
ThreadsPerChild 8
ServerLimit 4
MaxRequestWorkers 32
MinSpareThreads 1
MaxSpareThreads 32
"
    )
}
