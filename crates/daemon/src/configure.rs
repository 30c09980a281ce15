//! What the configuration says, brought to the director.

use anyhow::{Context, bail};
use evenkeel_api::EditRequest;
use evenkeel_config::native::{Config, PlacedService, closed_services};
use evenkeel_core::director::{Origin, Step};
use evenkeel_core::model::{ConfiguredService, Edit};

use crate::shared::Shared;
use crate::warnings;

/// Applies all but what needs interfaces. `adopted`: the dataplane was found running, and
/// keeps the timeouts that it has. After an error the services are as they were.
pub fn apply(shared: &Shared, config: &Config, adopted: bool) -> anyhow::Result<()> {
    shared.with_director(|director| director.set_compatible(config.compat.ipvsadm));
    apply_settings(shared, config, adopted)?;
    let nat = config.source_nat.clone().unwrap_or_default();
    let memory = shared.dataplane().memory();
    shared
        .with_director(|director| director.set_source_nat(&nat, &memory))
        .context("[source_nat]")?;
    apply_services(shared, &config.services, closed_services(config))?;
    warnings::about_source_nat(shared, config.source_nat.is_some());
    Ok(())
}

fn apply_settings(shared: &Shared, config: &Config, adopted: bool) -> anyhow::Result<()> {
    let mut edits: Vec<Edit> = Vec::new();
    if !adopted {
        edits.push(Edit::SetTimeouts(config.timeouts));
    }
    edits.extend(config.ipvs.iter().map(|&(setting, value)| {
        if let Some(warning) = warnings::without_effect(setting, value) {
            tracing::warn!("{warning}");
        }
        Edit::Set { setting, value }
    }));
    let request = EditRequest {
        transaction: true,
        edits,
    };
    let response = shared.apply_from(Origin::Configuration, &request);
    match response.refused.first() {
        None => Ok(()),
        Some(refusal) => bail!(
            "the configuration's settings were refused: {}",
            refusal.error
        ),
    }
}

/// `closed` have no place of their own.
fn apply_services(
    shared: &Shared,
    services: &[PlacedService],
    closed: Vec<ConfiguredService>,
) -> anyhow::Result<()> {
    let numbered = services.iter().enumerate();
    let placed = numbered.flat_map(|(number, placed)| {
        let each = placed.service.each();
        each.map(move |service| (Some(number), service))
    });
    let closed = closed.into_iter().map(|service| (None, service));
    let (numbers, wanted): (Vec<Option<usize>>, Vec<ConfiguredService>) =
        placed.chain(closed).unzip();
    let steps = shared.with_director(|director| director.steps_to(&wanted));
    if steps.is_empty() {
        return Ok(());
    }
    let request = EditRequest {
        transaction: true,
        edits: steps.iter().map(|step| step.edit.clone()).collect(),
    };
    let response = shared.apply_from(Origin::Configuration, &request);
    if let Some(refusal) = response.refused.first() {
        let step = steps.get(refusal.index);
        let service = step.and_then(|step| step.service);
        let placed = service.and_then(|at| services.get((*numbers.get(at)?)?));
        match (step, service, placed) {
            (Some(step), _, Some(placed)) => {
                bail!("{}", placed.mistake(step.server, &refusal.error))
            }
            (_, Some(_), None) => bail!("[closed]: {}", refusal.error),
            _ => bail!(
                "a service that stands in the configuration no more can not be deleted: {}",
                refusal.error
            ),
        }
    }
    say_what_changed(&steps);
    Ok(())
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
        apply(&first, &config(WEB), false).unwrap();
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
        apply(&second, &config(text), true).unwrap();
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
        apply(&third, &Config::default(), true).unwrap();
        assert_eq!(list(&third), services[1..]);
    }

    #[test]
    fn what_has_no_room_is_told_with_its_place() {
        let dataplane = Arc::new(InMemory::sized(&Sizes {
            servers: 1,
            ..Sizes::default()
        }));
        let shared = shared(&dataplane);
        let error = apply(&shared, &config(WEB), false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "e.toml:17:19: server 192.168.1.2:80 of TCP 10.0.0.10:80: no room for more servers; \
             raise the capacity in the configuration"
        );
        assert!(list(&shared).is_empty());
    }
}
