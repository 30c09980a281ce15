//! What somebody has done to configured servers while the director runs.

use hashbrown::HashMap;

use super::Monitor;
use crate::model::{Edit, ServerKey, ServerSettings, ServiceKey};

/// Servers that are as somebody wants them; none: he has deleted it. Until the
/// configuration is read again.
#[derive(Clone, Debug, Default)]
pub(super) struct ByHand(HashMap<(ServiceKey, ServerKey), Option<ServerSettings>>);

impl ByHand {
    /// What the table is to have, where it would have `place` otherwise. A server that is
    /// not to be there, or to have no weight, for its health's sake is not revived.
    pub(super) fn over(
        &self,
        service: &ServiceKey,
        server: &ServerKey,
        place: Option<ServerSettings>,
    ) -> Option<ServerSettings> {
        let place = place?;
        match self.0.get(&(*service, *server)) {
            None => Some(place),
            Some(None) => None,
            Some(Some(wanted)) if place.weight == 0 => Some(ServerSettings {
                weight: 0,
                ..*wanted
            }),
            Some(wanted) => *wanted,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(
        &self,
        service: &ServiceKey,
        server: &ServerKey,
    ) -> Option<&Option<ServerSettings>> {
        self.0.get(&(*service, *server))
    }
}

impl Monitor {
    /// A request has made this edit: it stands until the configuration is read again.
    pub fn by_hand(&mut self, edit: &Edit) {
        let hands = &mut self.by_hand.0;
        match edit {
            Edit::AddServer {
                service,
                server,
                settings,
            }
            | Edit::EditServer {
                service,
                server,
                settings,
            } => {
                if self.keys.contains(service) {
                    hands.insert((*service, *server), Some(*settings));
                }
            }
            Edit::DeleteServer { service, server } => {
                if self.keys.contains(service) {
                    hands.insert((*service, *server), None);
                }
            }
            Edit::DeleteService { service } => hands.retain(|(other, _), _| other != service),
            Edit::Flush => hands.clear(),
            Edit::AddService { .. }
            | Edit::EditService { .. }
            | Edit::Zero { .. }
            | Edit::SetTimeouts(_)
            | Edit::Set { .. } => {}
        }
    }
}
