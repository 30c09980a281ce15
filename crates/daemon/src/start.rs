//! Rules that the table begins with.

use std::path::PathBuf;

use evenkeel_api::EditRequest;
use evenkeel_config::ipvsadm::refused;
use evenkeel_core::model::Edit;

use crate::shared::Shared;

/// Rules that the table begins with, as they were read.
#[derive(Debug, Default)]
pub struct StartRules {
    /// The file that they stand in.
    pub file: PathBuf,
    /// What they ask for, each with its line.
    pub edits: Vec<(usize, Edit)>,
    /// What is to be told about them, a line each.
    pub remarks: Vec<String>,
}

/// Applies the rules, each for itself, and tells what came of it.
pub(crate) fn apply(shared: &Shared, rules: StartRules) {
    let StartRules {
        file,
        edits,
        remarks,
    } = rules;
    for remark in remarks {
        tracing::warn!("{remark}");
    }
    if edits.is_empty() {
        return;
    }
    let (lines, edits): (Vec<usize>, Vec<Edit>) = edits.into_iter().unzip();
    let count = edits.len();
    let response = shared.apply(&EditRequest {
        transaction: false,
        edits,
    });
    for refusal in &response.refused {
        let message = refused(&refusal.error).message;
        let line = lines.get(refusal.index).copied().unwrap_or_default();
        tracing::warn!("{}:{line}: {message}", file.display());
    }
    tracing::info!(
        "{}: {} of {count} rules are in the table",
        file.display(),
        count - response.refused.len()
    );
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use evenkeel_core::director::AsOf;
    use evenkeel_core::model::{Protocol, ServiceKey, ServiceSettings};

    use super::*;
    use crate::dataplane::InMemory;

    #[test]
    fn a_refused_rule_keeps_no_other_away() {
        let shared = Shared::new("test", Arc::new(InMemory::new()), false);
        let add = |port, scheduler: &str| Edit::AddService {
            service: ServiceKey::at(Protocol::Tcp, [10, 0, 0, 1], port),
            settings: ServiceSettings::scheduled_by(scheduler),
        };
        apply(
            &shared,
            StartRules {
                file: "/etc/ipvsadm.rules".into(),
                edits: vec![
                    (1, add(80, "rr")),
                    (4, add(81, "none")),
                    (9, add(82, "wrr")),
                ],
                remarks: vec!["told".into()],
            },
        );
        let services = shared
            .services(None, AsOf::Now)
            .map(|table| table.services.len());
        assert_eq!(services, Some(2));
    }
}
