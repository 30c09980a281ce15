//! Refused edits in the words of `ipvsadm`.

use evenkeel_core::model::EditError;

/// A message for standard error and the exit code that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Without the end of the line.
    pub message: String,
    /// 255, as for every error of the kernel; 1 for what is not supported yet.
    pub exit_code: u8,
}

/// What `ipvsadm` prints for the error. Errors that only Evenkeel has speak for
/// themselves.
#[must_use]
pub fn refused(error: &EditError) -> Refused {
    let message = match error {
        EditError::ServiceExists => "Service already exists",
        EditError::NoSuchService => "No such service",
        EditError::ServiceNotDefined => "Service not defined",
        EditError::ServerExists => "Destination already exists",
        EditError::NoSuchServer => "No such destination",
        EditError::SchedulerNotFound | EditError::EngineNotFound => {
            "Scheduler or persistence engine not found"
        }
        EditError::Invalid => {
            "Invalid operation.  Possibly wrong module version, address not unicast, ..."
        }
        EditError::OutOfRange => "Numerical result out of range",
        EditError::NotSupported(_) => {
            return Refused {
                message: error.to_string(),
                exit_code: 1,
            };
        }
        EditError::Full(_) | EditError::NotApplied => {
            return Refused {
                message: error.to_string(),
                exit_code: 255,
            };
        }
    };
    Refused {
        message: message.into(),
        exit_code: 255,
    }
}
