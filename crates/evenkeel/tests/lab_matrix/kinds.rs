//! x
use crate::world::World;
use anyhow::Result;
pub(crate) fn all(_world: &World) -> Result<()> {
    Ok(())
}
