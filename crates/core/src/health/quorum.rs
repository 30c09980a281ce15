//! Quorum with hysteresis, and the sorry server.

use alloc::format;
use alloc::string::String;

use super::news::News;
use super::{Action, Monitor, Virtual, words};
use crate::model::{ForwardMethod, ServerKey, ServerSettings, ServiceKey, Sorry};

/// Why a quorum is as it is.
struct Weighed {
    threshold: i64,
    sum: u64,
}

impl Virtual {
    /// The sum of the weights of servers that live.
    pub(super) fn living_weight(&self) -> u64 {
        let living = self.servers.iter().filter(|server| server.alive);
        living.map(|server| u64::from(server.weight)).sum()
    }

    /// From which sum on there is a quorum, or stays one.
    pub(super) fn threshold(&self) -> i64 {
        let quorum = self.config.quorum;
        let hysteresis = i64::from(quorum.hysteresis);
        i64::from(quorum.weight)
            + if self.quorum_up {
                -hysteresis
            } else {
                hysteresis
            }
    }
}

impl Monitor {
    /// Follows the sum of living weights. `init`: the virtual server has just been
    /// configured.
    pub(super) fn weigh_quorum(&mut self, number: usize, init: bool, now_ms: u64) {
        let Some(owner) = self.virtuals.get_mut(number) else {
            return;
        };
        let (sum, threshold) = (owner.living_weight(), owner.threshold());
        let enough = i64::try_from(sum).unwrap_or(i64::MAX) >= threshold;
        let weighed = Weighed { threshold, sum };
        if !owner.quorum_up && enough {
            owner.quorum_up = true;
            owner.quorum_since_ms = now_ms;
            self.log_quorum(number, "Gained quorum", &weighed);
            self.set_sorry(number, false);
            self.tell_quorum(number, init, &weighed);
        } else if owner.quorum_up && (sum == 0 || !enough) {
            owner.quorum_up = false;
            owner.quorum_since_ms = now_ms;
            self.log_quorum(number, "Lost quorum", &weighed);
            self.set_sorry(number, true);
            self.tell_quorum(number, init, &weighed);
        } else if init && !owner.quorum_up && owner.config.sorry.is_some() && !owner.sorry {
            self.log_quorum(number, "Starting with quorum down", &weighed);
            self.set_sorry(number, true);
            self.tell_quorum(number, init, &weighed);
        }
    }

    fn log_quorum(&mut self, number: usize, what: &str, weighed: &Weighed) {
        let Some(owner) = self.virtuals.get(number) else {
            return;
        };
        let quorum = owner.config.quorum;
        let (sign, relation) = if owner.quorum_up {
            ('+', "<=")
        } else {
            ('-', ">")
        };
        let line = format!(
            "{what} {}{sign}{}={} {relation} {} for VS {}",
            quorum.weight, quorum.hysteresis, weighed.threshold, weighed.sum, owner.name
        );
        self.log(line);
    }

    fn tell_quorum(&mut self, number: usize, init: bool, weighed: &Weighed) {
        let Some(owner) = self.virtuals.get(number) else {
            return;
        };
        let what = match (owner.quorum_up, init) {
            (true, true) => "Starting with quorum up",
            (true, false) => "Gained quorum",
            (false, true) => "Starting with quorum down",
            (false, false) => "Lost quorum",
        };
        let quorum = owner.config.quorum;
        // Sign and relation are keepalived's, for both directions.
        let text = format!(
            "=> {what} {}+{}={} <= {} <=",
            quorum.weight, quorum.hysteresis, weighed.threshold, weighed.sum
        );
        let news = quorum_news(owner, text);
        self.tell(news);
    }

    /// Puts the sorry server in the place of all others, or takes it out again.
    fn set_sorry(&mut self, number: usize, active: bool) {
        let Some(owner) = self.virtuals.get_mut(number) else {
            return;
        };
        if owner.config.sorry.is_none() || owner.sorry == active {
            return;
        }
        owner.sorry = active;
        let (count, name) = (owner.servers.len(), owner.name.clone());
        let (deed, word) = if active {
            ("Adding", "to")
        } else {
            ("Removing", "from")
        };
        let sorry = self.sorry_name(number);
        self.log(format!("{deed} sorry server {sorry} {word} VS {name}"));
        // At no time is there nobody: the one comes before the others go.
        let mut wants = self.sorry_wants(number);
        let servers = self.wants(number, 0..count);
        if active {
            wants.extend(servers.into_iter().filter(|(service, server, _)| {
                // What is there already as the sorry server stays.
                !self.is_sorry(number, service, server)
            }));
        } else {
            let (gone, rest) = (wants, servers);
            wants = rest;
            wants.extend(gone.into_iter().filter(|(service, server, place)| {
                let is_server = self.is_server(number, service, server);
                place.is_some() || !is_server
            }));
        }
        self.actions.push_back(Action::Set(wants));
    }

    fn sorry_name(&self, number: usize) -> String {
        let owner = self.virtuals.get(number);
        let sorry = owner.and_then(|owner| Some((owner, owner.config.sorry.as_ref()?)));
        match sorry {
            Some((owner, Sorry::Server { key, .. })) => words::real_server(key, owner.protocol),
            _ => "builtin".into(),
        }
    }

    fn is_sorry(&self, number: usize, service: &ServiceKey, server: &ServerKey) -> bool {
        let owner = self.virtuals.get(number);
        let sorry = owner.and_then(|owner| self.sorry_of(owner, service));
        sorry.is_some_and(|(key, _)| key == *server)
    }

    pub(super) fn is_server(
        &self,
        number: usize,
        service: &ServiceKey,
        server: &ServerKey,
    ) -> bool {
        let servers = self.virtuals.get(number).map(|owner| &owner.config.servers);
        let mut servers = servers.into_iter().flatten();
        servers.any(|real| real.key_in(service) == *server)
    }

    /// What the table is to have for the sorry server in each service.
    pub(super) fn sorry_wants(&self, number: usize) -> alloc::vec::Vec<super::Want> {
        let Some(owner) = self.virtuals.get(number) else {
            return alloc::vec::Vec::new();
        };
        let services = owner.keys.iter();
        let wants = services.filter_map(|service| {
            let (key, place) = self.sorry_of(owner, service)?;
            Some((*service, key, place))
        });
        wants.collect()
    }

    /// The sorry server of a service, and the settings that it is to have; none: it is not
    /// to be there. Nothing: there is no such server.
    pub(super) fn sorry_of(
        &self,
        owner: &Virtual,
        service: &ServiceKey,
    ) -> Option<(ServerKey, Option<ServerSettings>)> {
        match owner.config.sorry.as_ref()? {
            Sorry::Server {
                key,
                settings,
                inhibit,
            } => {
                let key = key.within(*service, settings.method);
                let place = match (owner.sorry, inhibit) {
                    (true, _) => Some(*settings),
                    (false, true) => Some(ServerSettings {
                        weight: 0,
                        ..*settings
                    }),
                    (false, false) => None,
                };
                Some((key, place))
            }
            Sorry::Builtin { directory } => {
                let port = self.surroundings.builtin_port(directory.as_deref())?;
                let address = match service {
                    ServiceKey::Address { address, .. } => *address,
                    ServiceKey::Mark { family, .. } => self.surroundings.own_address(*family)?,
                };
                let settings = ServerSettings::new(ForwardMethod::Masq, 1);
                Some((ServerKey { address, port }, owner.sorry.then_some(settings)))
            }
        }
    }
}

/// What is told of a quorum.
pub(super) fn quorum_news(owner: &Virtual, text: String) -> News {
    let (script, word) = if owner.quorum_up {
        (&owner.config.notify.up, "UP")
    } else {
        (&owner.config.notify.down, "DOWN")
    };
    let subject = format!("Virtualserver {} - {word}", owner.name);
    News {
        subject: owner.name.clone(),
        script: script.clone(),
        line: format!("VS {} {word}", owner.name),
        mail: owner.config.mail.then_some((subject, text)),
    }
}
