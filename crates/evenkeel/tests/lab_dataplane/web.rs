//! A web server and load for it, as Debian has them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evenkeel_lab::host::Host;
use evenkeel_lab::process::Process;
use evenkeel_lab::{http, sandbox, wait};

use crate::world::START;

/// Starts nginx on a host and waits until it answers. Its home page is the host's
/// name; connections stay open as long as clients like.
pub(crate) fn nginx(host: &Host, address: Ipv4Addr) -> Result<Process> {
    let name = host.name();
    let root = Path::new(sandbox::DIRECTORY).join(format!("web-{name}"));
    fs::create_dir_all(&root)?;
    let directory = root.display();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {directory};\n"))
        .concat();
    let text = format!(
        "daemon off; master_process off; worker_processes 1;
pid {directory}/pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
  {paths}
  server {{ listen {address}:80 backlog=4096; location / {{ return 200 \"{name}\\n\"; }} }}
}}
"
    );
    let file = root.join("nginx.conf");
    fs::write(&file, text)?;
    // Until it has read its file, nginx logs to where the package says.
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-c"]).arg(&file);
    let process = Process::start(host, &format!("nginx-{name}"), &mut command)
        .context("is nginx installed (scripts/setup test)?")?;
    let to = SocketAddr::from((address, 80));
    wait::until(START, "nginx to answer", || match http::get(host, to) {
        Ok(page) if page.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .with_context(|| process.log_tail(10))?;
    Ok(process)
}

/// A running wrk.
pub(crate) struct Load {
    process: Process,
    name: &'static str,
    duration: Duration,
}

impl Load {
    /// Starts it with this many connections, which are closed after each request or
    /// kept.
    pub(crate) fn start(
        host: &Host,
        name: &'static str,
        to: SocketAddr,
        connections: u32,
        duration: Duration,
        keeps: bool,
    ) -> Result<Self> {
        let mut wrk = Command::new("wrk");
        wrk.args(["--threads", "2", "--timeout", "5s", "--connections"])
            .arg(connections.to_string())
            .arg(format!("--duration={}s", duration.as_secs()));
        if !keeps {
            wrk.args(["--header", "Connection: close"]);
        }
        wrk.arg(format!("http://{to}/"));
        let process = Process::start(host, name, &mut wrk)
            .context("is wrk installed (scripts/setup test)?")?;
        Ok(Self {
            process,
            name,
            duration,
        })
    }

    /// True: it has not come to its end yet.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.ended()?.is_none())
    }

    /// Waits for its end. Every request must have been answered, and well.
    pub(crate) fn finish(mut self) -> Result<u64> {
        wait::until(self.duration + START, "the end of wrk", || {
            match self.process.ended() {
                Ok(Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        let log = Path::new(sandbox::DIRECTORY).join(format!("{}.log", self.name));
        let text = fs::read_to_string(log)?;
        // wrk has these lines only where there is something to tell.
        ensure!(!text.contains("Socket errors"), "{text}");
        ensure!(!text.contains("Non-2xx"), "{text}");
        let line = text.lines().find(|line| line.contains("requests in"));
        let count = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        println!("{}: {}", self.name, line.unwrap_or_default().trim());
        count.with_context(|| format!("wrk counted nothing: {text}"))
    }
}
