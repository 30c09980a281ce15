//! What the configuration says, brought to the director.

use std::sync::Arc;

use anyhow::{Context, bail};
use evenkeel_api::EditRequest;
use evenkeel_config::native::{Config, Flush, PlacedService, closed_services};
use evenkeel_core::director::{self, AsOf, Origin, Step};
use evenkeel_core::health::{Monitor, Surroundings};
use evenkeel_core::model::{
    ConfiguredService, Edit, ServerKey, ServiceKey, ServiceView, VirtualServer,
};

use crate::shared::Shared;
use crate::warnings;

/// Applies all but what needs interfaces, as a whole: after an error everything is as it was.
/// `adopted`: the dataplane was found running, and keeps the timeouts that it has.
pub fn apply(
    shared: &Shared,
    config: &Config,
    adopted: bool,
    builtin: Vec<(Option<String>, u16)>,
) -> anyhow::Result<()> {
    let first = First { adopted };
    bring(shared, config, Some(first), builtin)
}

/// Applies another configuration to a director that runs.
pub fn reload(
    shared: &Shared,
    config: &Config,
    builtin: Vec<(Option<String>, u16)>,
) -> anyhow::Result<()> {
    bring(shared, config, None, builtin)
}

/// Deletes services, as the end of the daemon asks for.
pub fn flush(shared: &Shared, which: Flush) {
    let edits = match which {
        Flush::Nothing => return,
        Flush::Everything => vec![Edit::Flush],
        Flush::Configured => delete(shared, |service| service.configured),
    };
    let request = EditRequest {
        transaction: false,
        edits,
    };
    shared.apply_from(Origin::Configuration, &request);
    tracing::info!("services are deleted at the end, as the configuration says");
}

/// The edits that delete these services.
fn delete(shared: &Shared, which: impl Fn(&ServiceView) -> bool) -> Vec<Edit> {
    let present = shared.services(None, AsOf::LastSample);
    let services = present.into_iter().flat_map(|present| present.services);
    let doomed = services.filter(which);
    doomed
        .map(|service| Edit::DeleteService {
            service: service.key,
        })
        .collect()
}

/// The director begins.
#[derive(Clone, Copy)]
struct First {
    adopted: bool,
}

fn bring(
    shared: &Shared,
    config: &Config,
    first: Option<First>,
    builtin: Vec<(Option<String>, u16)>,
) -> anyhow::Result<()> {
    let memory = shared.dataplane().memory();
    let before = director::source_nat(&memory);
    let nat = config.source_nat.clone().unwrap_or_default();
    shared
        .with_director(|director| director.set_source_nat(&nat, &memory))
        .context("[source_nat]")?;
    let mut edits = settings(config);
    if first.is_some() && config.start.flush {
        edits.extend(delete(shared, |service| !service.configured));
    }
    if first.is_none_or(|first| !first.adopted) {
        edits.insert(0, Edit::SetTimeouts(config.timeouts));
    }
    // Nothing that checks find out comes in between.
    let brought = shared.with_monitor(|monitor| {
        let mut next = next_monitor(shared, config, monitor, first, builtin);
        bring_services(shared, config, edits, &next)?;
        next.begin(monitor, shared.now_ms());
        *monitor = next;
        anyhow::Ok(())
    });
    if brought.is_err() {
        // It was accepted once.
        let back = shared.with_director(|director| director.set_source_nat(&before, &memory));
        back.context("[source_nat]")?;
        return brought;
    }
    shared.with_director(|director| director.set_compatible(config.compat.ipvsadm));
    shared.set_udp_quiesced(config.udp_quiesced);
    warnings::about_source_nat(shared, config.source_nat.is_some());
    shared.wake_monitor();
    Ok(())
}

/// The edits that the file's settings of `net.ipv4.vs` ask for.
fn settings(config: &Config) -> Vec<Edit> {
    let settings = config.ipvs.iter();
    let edits = settings.map(|&(setting, value)| {
        if let Some(warning) = warnings::without_effect(setting, value) {
            tracing::warn!("{warning}");
        }
        Edit::Set { setting, value }
    });
    edits.collect()
}

/// The monitor of this configuration.
fn next_monitor(
    shared: &Shared,
    config: &Config,
    present: &Monitor,
    first: Option<First>,
    builtin: Vec<(Option<String>, u16)>,
) -> Monitor {
    let virtuals = config.services.iter();
    let virtuals: Vec<Arc<VirtualServer>> = virtuals
        .map(|placed| Arc::new(placed.service.clone()))
        .collect();
    let is_adopted = first.is_some_and(|first| first.adopted);
    let surroundings = Surroundings {
        builtin,
        addresses: present.addresses().to_vec(),
        tell_at_start: config.alerts.at_start,
        servers_only: config.alerts.servers_only,
    };
    // A server that was left out when the last daemon ended is left out until it is well.
    let found = |service: &ServiceKey, server: &ServerKey| {
        !is_adopted
            || shared.with_director(|director| {
                !director.is_configured(service)
                    || director
                        .server_settings(service, server)
                        .is_some_and(|settings| settings.weight > 0)
            })
    };
    present.reconfigured(virtuals, surroundings, found, shared.now_ms())
}

/// The services as the monitor has them, and the edits before them, as one transaction.
fn bring_services(
    shared: &Shared,
    config: &Config,
    mut edits: Vec<Edit>,
    next: &Monitor,
) -> anyhow::Result<()> {
    let mut wanted = next.services();
    wanted.extend(closed_services(config));
    let before = edits.len();
    let steps = shared.with_director(|director| director.steps_to(&wanted));
    edits.extend(steps.iter().map(|step| step.edit.clone()));
    if edits.is_empty() {
        return Ok(());
    }
    let request = EditRequest {
        transaction: true,
        edits,
    };
    let response = shared.apply_from(Origin::Configuration, &request);
    if let Some(refusal) = response.refused.first() {
        let Some(step) = refusal.index.checked_sub(before) else {
            bail!(
                "the configuration's settings were refused: {}",
                refusal.error
            );
        };
        let step = steps.get(step);
        let service = step.and_then(|step| wanted.get(step.service?));
        let placed = service.and_then(|service| placed(config, service, step?.server));
        match (placed, service) {
            (Some((placed, server)), _) => bail!("{}", placed.mistake(server, &refusal.error)),
            (None, Some(closed)) => bail!("[closed]: {}: {}", closed.key, refusal.error),
            (None, None) => bail!(
                "a service that stands in the configuration no more can not be deleted: {}",
                refusal.error
            ),
        }
    }
    if !steps.is_empty() {
        say_what_changed(&steps);
    }
    Ok(())
}

/// Where a service stands in the file, and its server of this number in the table.
fn placed<'a>(
    config: &'a Config,
    service: &ConfiguredService,
    server: Option<usize>,
) -> Option<(&'a PlacedService, Option<usize>)> {
    let mut all = config.services.iter();
    let placed = all.find(|placed| placed.service.keys().any(|key| key == service.key))?;
    let server = server.and_then(|number| service.servers.get(number));
    let mut servers = placed.service.servers.iter();
    let number =
        server.and_then(|(key, _)| servers.position(|real| real.key_in(&service.key) == *key));
    Some((placed, number))
}

fn say_what_changed(steps: &[Step]) {
    let count = |is: fn(&Edit) -> bool| steps.iter().filter(|step| is(&step.edit)).count();
    let counts = [
        (
            count(|edit| matches!(edit, Edit::AddService { .. })),
            "services added",
        ),
        (
            count(|edit| matches!(edit, Edit::EditService { .. })),
            "services changed",
        ),
        (
            count(|edit| matches!(edit, Edit::DeleteService { .. })),
            "services deleted",
        ),
        (
            count(|edit| matches!(edit, Edit::AddServer { .. })),
            "servers added",
        ),
        (
            count(|edit| matches!(edit, Edit::EditServer { .. })),
            "servers changed",
        ),
        (
            count(|edit| matches!(edit, Edit::DeleteServer { .. })),
            "servers deleted",
        ),
    ];
    let told = counts.iter().filter(|(count, _)| *count > 0);
    let told: Vec<String> = told
        .map(|(count, what)| format!("{what} {count}"))
        .collect();
    tracing::info!("the configuration's services: {}", told.join(", "));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use evenkeel_config::native;
    use evenkeel_core::director::AsOf;
    use evenkeel_core::model::{ServiceKey, ServiceView, Sysctl};
    use evenkeel_datapath::simulated::Sizes;

    use super::*;
    use crate::dataplane::{Dataplane, InMemory};

    fn config(text: &str) -> Config {
        native::parse(text, "e.toml").unwrap()
    }

    fn shared(dataplane: &Arc<InMemory>) -> Shared {
        let dataplane = Arc::clone(dataplane);
        Shared::new("test", dataplane, false)
    }

    fn list(shared: &Shared) -> Vec<ServiceView> {
        let mut list = shared.services(None, AsOf::Now).unwrap().services;
        list.sort_by_key(|view| view.key);
        list
    }

    const WEB: &str = "
        [ipvs]
        sloppy_tcp = 1
        lblc_expiration = 600
        conntrack = 1
        [timeouts]
        udp = 7
        [source_nat]
        addresses = [\"10.2.0.7\"]
        ports = \"20000-29999\"
        [[service]]
        address = \"10.0.0.10\"
        port = 80
        [[service.server]]
        address = \"192.168.1.1\"
        [[service.server]]
        address = \"192.168.1.2\"
        ";

    #[test]
    fn a_configuration_is_applied_at_every_start() {
        let dataplane = Arc::new(InMemory::new());
        let first = shared(&dataplane);
        apply(&first, &config(WEB), false, Vec::new()).unwrap();
        assert_eq!(first.timeouts().udp, 7);
        let is_set = |shared: &Shared, setting| {
            let settings = shared.settings();
            let found = settings.into_iter().find(|view| view.setting == setting);
            found.unwrap().value.number()
        };
        assert_eq!(is_set(&first, Sysctl::SloppyTcp), 1);
        assert_eq!(is_set(&first, Sysctl::LblcExpiration), 600);
        let control = dataplane.memory().control;
        assert_eq!(control.pool_count.get(), 1);
        let before = list(&first);
        assert_eq!((before.len(), before[0].servers.len()), (1, 2));
        assert!(before[0].configured && !before[0].compatible);

        // Another daemon on the same dataplane, with less in its file.
        let second = shared(&dataplane);
        let text = "[timeouts]\nudp = 9\n[compat]\nipvsadm = \"none\"\n\
                    [[service]]\naddress = \"10.0.0.10\"\nport = 81\n";
        apply(&second, &config(text), true, Vec::new()).unwrap();
        assert_eq!(second.timeouts().udp, 7, "as the dataplane has it");
        assert_eq!(is_set(&second, Sysctl::SloppyTcp), 1);
        assert_eq!(control.pool_count.get(), 0);
        let services = list(&second);
        let ports: Vec<u16> = services.iter().map(|view| view.key.port()).collect();
        assert_eq!(ports, [81]);
        let by_hand = Edit::AddService {
            service: ServiceKey::at(evenkeel_core::model::Protocol::Tcp, [10, 0, 0, 10], 82),
            settings: evenkeel_core::model::ServiceSettings::scheduled_by("rr"),
        };
        let request = EditRequest {
            transaction: true,
            edits: vec![by_hand],
        };
        assert!(second.apply(&request).refused.is_empty());
        let services = list(&second);
        assert!(!services[1].compatible && !services[1].configured);
        // Nothing is left of it but what was made by hand.
        let third = shared(&dataplane);
        apply(&third, &Config::default(), true, Vec::new()).unwrap();
        assert_eq!(list(&third), services[1..]);
    }

    #[test]
    fn what_has_no_room_is_told_with_its_place() {
        let dataplane = Arc::new(InMemory::sized(&Sizes {
            servers: 1,
            ..Sizes::default()
        }));
        let shared = shared(&dataplane);
        let error = apply(&shared, &config(WEB), false, Vec::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "e.toml:17:19: server 192.168.1.2:80 of TCP 10.0.0.10:80: no room for more servers; \
             raise the capacity in the configuration"
        );
        assert!(list(&shared).is_empty());
    }
}
