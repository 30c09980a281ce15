//! What a file of rules comes to: the table that it would make of an empty one.

use evenkeel_core::model::{
    ConfiguredService, Edit, EditError, Ends, RealServer, Scheduler, ServerKey, ServerSettings,
    ServiceKey, ServiceSettings, VirtualServer,
};

use super::boot::{Remark, Rules};
use crate::diagnostic::Place;
use crate::native::{Compat, Config, IpvsadmRules, PlacedService};

/// True for what looks like saved rules: its first line is a command of `ipvsadm`'s.
#[must_use]
pub fn is_rules(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let word = first.and_then(|line| line.split_whitespace().next());
    word.is_some_and(|word| word == "ipvsadm" || word.starts_with('-'))
}

/// The configuration that makes the table of these rules. What the kernel would refuse is
/// left out and remarked, as are the remarks of the rules themselves.
///
/// Its services have IPVS's ways, as those that `ipvsadm` makes, and the rules are not read
/// once more at the start.
#[must_use]
pub fn configuration(rules: Rules, file: &str) -> (Config, Vec<Remark>) {
    let mut table = Table {
        file,
        config: Config {
            compat: Compat {
                services: true,
                ..Config::default().compat
            },
            ..Config::default()
        },
    };
    table.config.start.ipvsadm_rules = IpvsadmRules::Never;
    let mut remarks = rules.remarks;
    for (line, edit) in rules.edits {
        if let Err(error) = table.apply(line, edit) {
            remarks.push(Remark {
                line,
                message: error.to_string(),
            });
        }
    }
    remarks.sort_by_key(|remark| remark.line);
    (table.config, remarks)
}

struct Table<'f> {
    file: &'f str,
    config: Config,
}

impl Table<'_> {
    fn apply(&mut self, line: usize, edit: Edit) -> Result<(), EditError> {
        match edit {
            Edit::AddService { service, settings } => {
                if self.service(service).is_some() {
                    return Err(EditError::ServiceExists);
                }
                let settings = sound(settings)?;
                let place = self.place(line);
                self.config.services.push(made(service, settings, place));
            }
            Edit::EditService { service, settings } => {
                let found = self.service(service).ok_or(EditError::NoSuchService)?;
                found.service.settings = sound(settings)?;
            }
            Edit::DeleteService { service } => {
                self.service(service).ok_or(EditError::NoSuchService)?;
                let ends = [Ends::of(service)];
                let services = &mut self.config.services;
                services.retain(|placed| placed.service.ends != ends);
            }
            Edit::Flush => self.config.services.clear(),
            Edit::AddServer {
                service,
                server,
                settings,
            } => {
                let place = self.place(line);
                let found = self.service(service).ok_or(EditError::ServiceNotDefined)?;
                if position(found, server).is_some() {
                    return Err(EditError::ServerExists);
                }
                found.service.servers.push(RealServer {
                    mail: true,
                    ..RealServer::unwatched(server, fitting(settings)?)
                });
                found.servers.push(place);
            }
            Edit::EditServer {
                service,
                server,
                settings,
            } => {
                let found = self.service(service).ok_or(EditError::ServiceNotDefined)?;
                let at = position(found, server).ok_or(EditError::NoSuchServer)?;
                found.service.servers[at].settings = fitting(settings)?;
            }
            Edit::DeleteServer { service, server } => {
                let found = self.service(service).ok_or(EditError::ServiceNotDefined)?;
                let at = position(found, server).ok_or(EditError::NoSuchServer)?;
                found.service.servers.remove(at);
                found.servers.remove(at);
            }
            Edit::Zero { .. } => {}
            Edit::SetTimeouts(wanted) => {
                let timeouts = &mut self.config.timeouts;
                for (target, wanted) in [
                    (&mut timeouts.tcp, wanted.tcp),
                    (&mut timeouts.tcp_fin, wanted.tcp_fin),
                    (&mut timeouts.udp, wanted.udp),
                ] {
                    if wanted > 0 {
                        *target = wanted;
                    }
                }
            }
            Edit::Set { setting, value } => {
                self.config.ipvs.retain(|(known, _)| *known != setting);
                self.config.ipvs.push((setting, value));
            }
        }
        Ok(())
    }

    fn place(&self, line: usize) -> Place {
        Place {
            file: self.file.into(),
            line,
            column: 1,
        }
    }

    fn service(&mut self, key: ServiceKey) -> Option<&mut PlacedService> {
        let ends = [Ends::of(key)];
        let mut services = self.config.services.iter_mut();
        services.find(|placed| placed.service.ends == ends)
    }
}

fn position(placed: &PlacedService, server: ServerKey) -> Option<usize> {
    let mut servers = placed.service.servers.iter();
    servers.position(|known| known.key == server)
}

fn made(key: ServiceKey, settings: ServiceSettings, place: Place) -> PlacedService {
    let servers = Vec::new();
    let service = VirtualServer::unwatched(ConfiguredService {
        key,
        settings,
        servers,
    });
    PlacedService {
        service: VirtualServer {
            mail: true,
            ..service
        },
        place,
        servers: Vec::new(),
    }
}

/// The settings, if the kernel knows what they name.
fn sound(settings: ServiceSettings) -> Result<ServiceSettings, EditError> {
    settings.scheduler.parse::<Scheduler>()?;
    if settings.engine.as_ref().is_some_and(|name| name != "sip") {
        return Err(EditError::EngineNotFound);
    }
    Ok(ServiceSettings {
        compatible: Some(true),
        ..settings
    })
}

/// The settings, if their thresholds go together.
fn fitting(settings: ServerSettings) -> Result<ServerSettings, EditError> {
    if settings.lower_threshold > settings.upper_threshold {
        return Err(EditError::OutOfRange);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::super::{NoNames, rules};
    use super::*;
    use crate::native;

    fn read(text: &str) -> (Config, Vec<String>) {
        let (config, remarks) = configuration(rules(text, &NoNames), "rules");
        let remarks = remarks.iter();
        let remarks = remarks.map(|remark| format!("{}: {}", remark.line, remark.message));
        (config, remarks.collect())
    }

    #[test]
    fn rules_are_told_by_their_first_line() {
        for text in [
            "-A -t 10.0.0.1:80",
            "# saved\n\n  ipvsadm -C\n",
            "--set 1 2 3",
        ] {
            assert!(is_rules(text), "{text}");
        }
        for text in [
            "",
            "# -A\n",
            "[[service]]\n",
            "virtual_server 10.0.0.1 80 {\n",
        ] {
            assert!(!is_rules(text), "{text}");
        }
    }

    #[test]
    fn rules_make_a_configuration() {
        let (config, remarks) = read(
            "-A -t 10.0.0.1:80 -s mh -b mh-port -p 300 -M 255.255.255.0\n\
             -a -t 10.0.0.1:80 -r 10.1.0.1:80 -g -w 3\n\
             -a -t 10.0.0.1:80 -r 10.1.0.2:80 -i --tun-type gue --tun-port 6080\n\
             -A -f 7 -6 -s rr\n\
             -a -f 7 -6 -r [fd00::1]:0 -m -x 100 -y 50\n\
             -A -u 10.0.0.1:53 -o\n\
             --set 60 0 7\n",
        );
        assert_eq!(remarks, [""; 0]);
        let text = native::write(&config);
        assert_eq!(
            text,
            "[timeouts]\ntcp = 60\nudp = 7\n\n\
             [start]\nipvsadm_rules = \"never\"\n\n\
             [compat]\nservices = \"ipvs\"\n\n\
             [[service]]\naddress = \"10.0.0.1\"\nport = 80\nscheduler = \"mh\"\n\
             scheduler_flags = [\"mh-port\"]\npersistence = 300\nnetmask = \"255.255.255.0\"\n\n\
             [[service.server]]\naddress = \"10.1.0.1\"\nmethod = \"route\"\nweight = 3\n\n\
             [[service.server]]\naddress = \"10.1.0.2\"\nmethod = \"gue\"\ntunnel_port = 6080\n\n\
             [[service]]\nmark = 7\nfamily = \"v6\"\nscheduler = \"rr\"\n\n\
             [[service.server]]\naddress = \"fd00::1\"\nupper_threshold = 100\n\
             lower_threshold = 50\n\n\
             [[service]]\naddress = \"10.0.0.1\"\nport = 53\nprotocol = \"udp\"\n\
             one_packet = true\n"
        );
        assert!(native::parse(&text, "e.toml").is_ok());
    }

    #[test]
    fn what_the_kernel_refuses_is_left_out() {
        let (config, remarks) = read(
            "-A -t 10.0.0.1:80 -s none\n-a -t 10.0.0.1:80 -r 10.1.0.1 -m\n\
             -A -t 10.0.0.2:80\n-A -t 10.0.0.2:80\n-a -t 10.0.0.2:80 -r 10.1.0.1 -m\n\
             -a -t 10.0.0.2:80 -r 10.1.0.1 -m\n-e -t 10.0.0.2:80 -r 10.1.0.2 -m\n\
             -e -t 10.0.0.2:80 -r 10.1.0.1 -m -w 9\n-E -t 10.0.0.2:80 -s rr\n-Z\n\
             -a -t 10.0.0.2:80 -r 10.1.0.2 -m\n-d -t 10.0.0.2:80 -r 10.1.0.1\n\
             -D -t 10.0.0.9:80\n",
        );
        assert_eq!(
            remarks,
            [
                "1: scheduler not found",
                "2: service not defined",
                "4: service already exists",
                "6: destination already exists",
                "7: no such destination",
                "13: no such service",
            ]
        );
        let text = native::write(&config);
        let expected = "[[service]]\naddress = \"10.0.0.2\"\nport = 80\nscheduler = \"rr\"\n\n\
                        [[service.server]]\naddress = \"10.1.0.2\"\n";
        assert!(text.ends_with(expected), "{text}");
        let (config, _) = read("-A -t 10.0.0.1:80\n-D -t 10.0.0.1:80\n-A -t 10.0.0.2:80\n-C\n");
        assert_eq!(config.services, []);
    }
}
