//! From the table that there is to the one of the configuration.

use alloc::vec::Vec;

use hashbrown::HashSet;

use super::Director;
use super::server::check_settings;
use super::service::{Service, Settings};
use crate::model::{ConfiguredService, Edit, ServerKey, ServerSettings, ServiceKey};

/// An edit on the way to the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The edit.
    pub edit: Edit,
    /// The configured service that it is for, by number; none: one that is configured no
    /// more.
    pub service: Option<usize>,
    /// The server of that service, by number; none: the service itself, or a server that
    /// is configured no more.
    pub server: Option<usize>,
}

impl Director {
    /// What is to be done, as one transaction of [`Origin::Configuration`], to have these
    /// services with these servers and no other configured ones. Nothing for what is
    /// there already. A service or a server that was made by a request, and now stands in the
    /// configuration too, is taken over with its connections; others stay as they are.
    ///
    /// [`Origin::Configuration`]: super::Origin::Configuration
    #[must_use]
    pub fn steps_to(&self, wanted: &[ConfiguredService]) -> Vec<Step> {
        let mut steps = Vec::new();
        let keys: HashSet<ServiceKey> = wanted.iter().map(|service| service.key).collect();
        let live = self.state.services().iter().filter(|(_, s)| s.live);
        for (_, service) in live.filter(|(_, s)| s.configured && !keys.contains(&s.key)) {
            let service = service.key;
            steps.push(Step {
                edit: Edit::DeleteService { service },
                service: None,
                server: None,
            });
        }
        for (number, wanted) in wanted.iter().enumerate() {
            let index = self.live_service(&wanted.key);
            let present = index.and_then(|index| self.state.services().get(index));
            steps_to_service(&mut steps, number, wanted, present);
            self.steps_to_servers(&mut steps, number, wanted, index);
        }
        steps
    }

    /// The edits that bring servers of services that are there to what is wanted of them:
    /// settings, or their removal. A service that is not there is left alone.
    #[must_use]
    pub fn edits_to(
        &self,
        wanted: &[(ServiceKey, ServerKey, Option<ServerSettings>)],
    ) -> Vec<Edit> {
        let edits = wanted.iter().filter_map(|&(service, server, settings)| {
            let index = self.live_service(&service)?;
            let present = self.live_server(index, &server);
            let present = present.and_then(|index| self.state.servers().get(index));
            match (present, settings) {
                (None, None) => None,
                (Some(_), None) => Some(Edit::DeleteServer { service, server }),
                (None, Some(settings)) => Some(Edit::AddServer {
                    service,
                    server,
                    settings,
                }),
                (Some(present), Some(settings)) => (!is_same(&present.settings, &settings))
                    .then_some(Edit::EditServer {
                        service,
                        server,
                        settings,
                    }),
            }
        });
        edits.collect()
    }

    /// The settings of a server that is there.
    #[must_use]
    pub fn server_settings(
        &self,
        service: &ServiceKey,
        server: &ServerKey,
    ) -> Option<ServerSettings> {
        let index = self.live_server(self.live_service(service)?, server)?;
        Some(self.state.servers().get(index)?.settings)
    }

    /// Where these servers listen, by their places in memory; deleted ones are left out.
    #[must_use]
    pub fn server_ends(&self, servers: &[u32]) -> Vec<ServerKey> {
        let servers = servers.iter().filter_map(|index| {
            let server = self.state.servers().get(*index)?;
            let service = self.state.services().get(server.service)?;
            server.live.then(|| ServerKey {
                port: server.actual_port(service),
                ..server.key
            })
        });
        servers.collect()
    }

    /// True: the service is there, and stands in the configuration.
    #[must_use]
    pub fn is_configured(&self, service: &ServiceKey) -> bool {
        let index = self.live_service(service);
        let service = index.and_then(|index| self.state.services().get(index));
        service.is_some_and(|service| service.configured)
    }

    fn steps_to_servers(
        &self,
        steps: &mut Vec<Step>,
        number: usize,
        wanted: &ConfiguredService,
        index: Option<u32>,
    ) {
        let service = wanted.key;
        let mut push = |edit, server| {
            steps.push(Step {
                edit,
                service: Some(number),
                server,
            });
        };
        let head = index.and_then(|index| Some(self.state.services().get(index)?.head));
        let keys: HashSet<ServerKey> = wanted.servers.iter().map(|(key, _)| *key).collect();
        for (_, server) in head.into_iter().flat_map(|head| self.state.list(head)) {
            if !keys.contains(&server.key) && !server.requested {
                let server = server.key;
                push(Edit::DeleteServer { service, server }, None);
            }
        }
        for (server_number, &(server, settings)) in wanted.servers.iter().enumerate() {
            let present = index.and_then(|index| self.live_server(index, &server));
            let present = present.and_then(|index| self.state.servers().get(index));
            let edit = match present {
                Some(present) if !present.requested && is_same(&present.settings, &settings) => {
                    continue;
                }
                Some(_) => Edit::EditServer {
                    service,
                    server,
                    settings,
                },
                None => Edit::AddServer {
                    service,
                    server,
                    settings,
                },
            };
            push(edit, Some(server_number));
        }
    }
}

fn steps_to_service(
    steps: &mut Vec<Step>,
    number: usize,
    wanted: &ConfiguredService,
    present: Option<&Service>,
) {
    let (service, settings) = (wanted.key, wanted.settings.clone());
    let edit = match present {
        Some(present) if is_as_wanted(present, wanted) => return,
        Some(_) => Edit::EditService { service, settings },
        None => Edit::AddService { service, settings },
    };
    steps.push(Step {
        edit,
        service: Some(number),
        server: None,
    });
}

fn is_as_wanted(present: &Service, wanted: &ConfiguredService) -> bool {
    present.configured
        && Settings::check(&wanted.key, &wanted.settings) == Ok(present.settings)
        && wanted
            .settings
            .compatible
            .is_none_or(|compatible| compatible == present.compatible)
}

fn is_same(present: &ServerSettings, wanted: &ServerSettings) -> bool {
    check_settings(wanted).as_ref() == Ok(present)
}
