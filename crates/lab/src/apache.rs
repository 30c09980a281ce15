//! Apache as a real server, as Debian's `apache2-bin` has it.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

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
        set_page(host, "index.html", &format!("{page}\n"))?;
        Self::start_site(host, addresses, None)
    }

    /// Starts one on a host, which has these addresses, with the pages that were set there
    /// ([`set_page`]), and by TLS at one address more.
    pub fn start_site(
        host: &Host,
        addresses: &[SocketAddr],
        tls: Option<SocketAddr>,
    ) -> Result<Self> {
        let root = root(host);
        let file = root.join("apache2.conf");
        let mut text = configuration(&root, host.name(), addresses);
        if let Some(address) = tls {
            certificate(host)?;
            text += &tls_configuration(&root, address);
        }
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
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

    /// Ends it: whoever connects is refused then.
    pub fn stop(mut self, deadline: Duration) -> Result<()> {
        let ended = self.process.terminate(deadline);
        ended.map(drop).with_context(|| self.process.log_tail(10))
    }

    /// Waits until it answers a request of its own host at each address.
    pub fn wait_ready(&mut self, host: &Host, deadline: Duration) -> Result<()> {
        self.addresses
            .iter()
            .try_for_each(|&address| self.wait_ready_at(host, address, deadline))
    }

    /// As [`Self::wait_ready`], at one address.
    pub fn wait_ready_at(
        &self,
        host: &Host,
        address: SocketAddr,
        deadline: Duration,
    ) -> Result<()> {
        let what = format!("Apache on {} to answer at {address}", host.name());
        wait::until(deadline, &what, || match http::get(host, address) {
            Ok(page) if page.status == 200 => Ok(()),
            Ok(page) => Err(format!("status {}", page.status)),
            Err(error) => Err(format!("{error:#}")),
        })
        .with_context(|| self.process.log_tail(10))
    }
}

/// Where a host's Apache has its files.
fn root(host: &Host) -> PathBuf {
    Path::new(sandbox::DIRECTORY).join(host.name())
}

/// Sets a page of a host's Apache, be it running or not.
pub fn set_page(host: &Host, name: &str, text: &str) -> Result<()> {
    let pages = root(host).join("pages");
    fs::create_dir_all(&pages).with_context(|| format!("cannot make {}", pages.display()))?;
    fs::write(pages.join(name), text).with_context(|| format!("cannot write the page {name}"))
}

/// The requests that a host's Apache has answered, a line each: the client's address, a
/// blank, and the request's first line.
pub fn requests(host: &Host) -> Result<Vec<String>> {
    let log = root(host).join("access.log");
    let text =
        fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(text.lines().map(Into::into).collect())
}

/// A certificate for a host, signed by itself.
fn certificate(host: &Host) -> Result<()> {
    let root = root(host);
    if root.join("key.pem").exists() {
        return Ok(());
    }
    let subject = format!("/CN={}", host.name());
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", &subject])
        .arg("-keyout")
        .arg(root.join("key.pem"))
        .arg("-out")
        .arg(root.join("certificate.pem"))
        .output()
        .context("cannot run openssl: is it installed (scripts/setup lab)?")?;
    if !output.status.success() {
        bail!(
            "openssl makes no certificate: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn tls_configuration(root: &Path, address: SocketAddr) -> String {
    let root = root.display();
    format!(
        "LoadModule socache_shmcb_module {MODULES}/mod_socache_shmcb.so
LoadModule ssl_module {MODULES}/mod_ssl.so
Listen {address}
<VirtualHost {address}>
SSLEngine on
SSLCertificateFile {root}/certificate.pem
SSLCertificateKeyFile {root}/key.pem
</VirtualHost>
"
    )
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
CustomLog {root}/access.log \"%h %r\"
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
