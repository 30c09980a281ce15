//! What a command means for the director: an edit, or something to show.

use core::net::IpAddr;

use evenkeel_core::model::{Edit, Protocol, ServerKey, ServiceKey};

use super::command::{Command, List, Listed, Server, Service, VirtualService};
use super::listing::Layout;

/// What is to be done for a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The director's table is to be changed.
    Edit(Edit),
    /// The services are to be listed.
    List {
        /// Only this one.
        service: Option<ServiceKey>,
        /// How.
        layout: Layout,
    },
    /// The timeouts are to be listed.
    ListTimeouts,
    /// The rules are to be written down.
    Save {
        /// Addresses and ports as numbers.
        numeric: bool,
    },
    /// Rules are to be read.
    Restore,
    /// [`super::HELP`] is to be printed.
    Help,
    /// [`super::VERSION`] is to be printed.
    Version,
}

/// A part of `ipvsadm` that Evenkeel does not have yet: its option, or `IPv6`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not supported yet: {0}")]
pub struct NotSupported(pub &'static str);

/// Turns a command into a request. Scheduler and forwarding method are left to
/// the director, which knows them and answers in the order that IPVS does.
///
/// # Errors
/// The first option of the command that is not supported yet.
pub fn request(command: Command) -> Result<Request, NotSupported> {
    let edit = match command {
        Command::AddService(service) => {
            let (service, scheduler) = plain_service(service)?;
            Edit::AddService { service, scheduler }
        }
        Command::EditService(service) => {
            let (service, scheduler) = plain_service(service)?;
            Edit::EditService { service, scheduler }
        }
        Command::DeleteService(service) => Edit::DeleteService {
            service: key(service)?,
        },
        Command::Clear => Edit::Flush,
        Command::AddServer(server) => {
            let (service, key) = plain_server(&server)?;
            Edit::AddServer {
                service,
                server: key,
                method: server.method,
                weight: server.weight,
            }
        }
        Command::EditServer(server) => {
            let (service, key) = plain_server(&server)?;
            Edit::EditServer {
                service,
                server: key,
                method: server.method,
                weight: server.weight,
            }
        }
        Command::DeleteServer { service, server } => Edit::DeleteServer {
            service: key(service)?,
            server: ipv4(server, server.address)?,
        },
        Command::Zero(service) => Edit::Zero {
            service: service.map(key).transpose()?,
        },
        Command::SetTimeouts(timeouts) => Edit::SetTimeouts(timeouts),
        Command::List(list) => return plain_list(list),
        Command::Save { numeric } => return Ok(Request::Save { numeric }),
        Command::Restore => return Ok(Request::Restore),
        Command::Help => return Ok(Request::Help),
        Command::Version => return Ok(Request::Version),
        Command::StartDaemon(_) => return Err(NotSupported("--start-daemon")),
        Command::StopDaemon { .. } => return Err(NotSupported("--stop-daemon")),
    };
    Ok(Request::Edit(edit))
}

/// An error for the first that is true.
fn none_of(options: &[(bool, &'static str)]) -> Result<(), NotSupported> {
    match options.iter().find(|(given, _)| *given) {
        Some(&(_, name)) => Err(NotSupported(name)),
        None => Ok(()),
    }
}

fn key(service: VirtualService) -> Result<ServiceKey, NotSupported> {
    match service {
        VirtualService::Mark { .. } => Err(NotSupported("--fwmark-service")),
        VirtualService::Address(key) if key.protocol == Protocol::Sctp => {
            Err(NotSupported("--sctp-service"))
        }
        VirtualService::Address(key) => ipv4(key, key.address),
    }
}

fn ipv4<T>(value: T, address: IpAddr) -> Result<T, NotSupported> {
    if address.is_ipv6() {
        Err(NotSupported("IPv6"))
    } else {
        Ok(value)
    }
}

fn plain_service(service: Service) -> Result<(ServiceKey, String), NotSupported> {
    let key = key(service.service)?;
    none_of(&[
        (service.persistent.is_some(), "--persistent"),
        (service.netmask.is_some(), "--netmask"),
        (service.one_packet, "--ops"),
        (service.persistence_engine.is_some(), "--pe"),
        (service.scheduler_flags != 0, "--sched-flags"),
    ])?;
    Ok((key, service.scheduler))
}

fn plain_server(server: &Server) -> Result<(ServiceKey, ServerKey), NotSupported> {
    let service = key(server.service)?;
    let key = ipv4(server.server, server.server.address)?;
    none_of(&[
        (server.upper_threshold != 0, "--u-threshold"),
        (server.lower_threshold != 0, "--l-threshold"),
    ])?;
    Ok((service, key))
}

fn plain_list(list: List) -> Result<Request, NotSupported> {
    none_of(&[
        (list.what == Listed::Connections, "--connection"),
        (list.what == Listed::Daemons, "--daemon"),
        (list.stats, "--stats"),
        (list.rate, "--rate"),
        (list.thresholds, "--thresholds"),
        (list.persistent_connections, "--persistent-conn"),
        (list.tunnel_info, "--tun-info"),
    ])?;
    let layout = Layout {
        numeric: list.numeric,
        unsorted: list.unsorted,
    };
    match list.what {
        Listed::Timeouts => Ok(Request::ListTimeouts),
        Listed::Service(service) => Ok(Request::List {
            service: Some(key(service)?),
            layout,
        }),
        _ => Ok(Request::List {
            service: None,
            layout,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NoNames, parse};
    use super::*;

    fn outcome(line: &str) -> Result<Request, NotSupported> {
        let words: Vec<&str> = line.split_whitespace().collect();
        request(parse(&words, &NoNames).expect(line))
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (line, name) in [
            ("-A -t 10.0.0.1:80 -s rr -p", "--persistent"),
            ("-A -t 10.0.0.1:80 -s rr -M 255.255.255.0", "--netmask"),
            ("-A -u 10.0.0.1:80 -s rr -o", "--ops"),
            ("-A -t 10.0.0.1:80 -s rr --pe sip", "--pe"),
            ("-A -t 10.0.0.1:80 -s rr -b flag-1", "--sched-flags"),
            ("-A -f 1 -s rr", "--fwmark-service"),
            ("-D --sctp-service 10.0.0.1:80", "--sctp-service"),
            ("-Z -t [2001:db8::1]:80", "IPv6"),
            ("-d -t 10.0.0.1:80 -r [2001:db8::1]:80", "IPv6"),
            ("-a -t 10.0.0.1:80 -r 10.0.0.2 -m -x 5", "--u-threshold"),
            ("-a -t 10.0.0.1:80 -r 10.0.0.2 -m -y 5", "--l-threshold"),
            ("-L -c", "--connection"),
            ("-L --daemon", "--daemon"),
            ("-Ln --stats", "--stats"),
            ("-Ln --rate", "--rate"),
            ("-Ln --thresholds", "--thresholds"),
            ("-Ln --persistent-conn", "--persistent-conn"),
            ("-Ln --tun-info", "--tun-info"),
            ("--start-daemon master", "--start-daemon"),
            ("--stop-daemon master", "--stop-daemon"),
        ] {
            assert_eq!(outcome(line), Err(NotSupported(name)), "{line}");
        }
    }

    #[test]
    fn what_does_nothing_in_ipvsadm_does_nothing_here() {
        assert!(outcome("-A -t 10.0.0.1:80 -M 255.255.255.255").is_ok());
        assert!(outcome("-L --sort --exact --syncid 3").is_ok());
    }
}
