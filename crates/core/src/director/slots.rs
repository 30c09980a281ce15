//! Slots of the memory, numbered, and which of them are free.

use alloc::vec::Vec;

use super::state::NONE;
use crate::model::EditError;

/// Slots of one kind: those in use, and which is the next to be used.
#[derive(Debug)]
pub(super) struct Slots<T> {
    used: Vec<Option<T>>,
    free: Vec<u32>,
    capacity: u32,
    name: &'static str,
}

impl<T: Copy> Slots<T> {
    pub(super) fn new(capacity: usize, name: &'static str) -> Self {
        let capacity = u32::try_from(capacity).unwrap_or(NONE);
        Self {
            used: Vec::new(),
            free: Vec::new(),
            capacity,
            name,
        }
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.used.get(index as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.used.get_mut(index as usize)?.as_mut()
    }

    /// Puts a value into a slot that was allocated.
    pub(super) fn fill(&mut self, index: u32, value: T) {
        if let Some(slot) = self.used.get_mut(index as usize) {
            *slot = Some(value);
        }
    }

    /// Makes room for this many more at once.
    pub(super) fn reserve(&mut self, slots: usize) {
        self.used.reserve(slots);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = self.used.iter().enumerate();
        slots.filter_map(|(index, slot)| Some((index as u32, slot.as_ref()?)))
    }

    /// Slots that an edit could take at once.
    pub(super) fn available(&self) -> usize {
        self.free.len() + self.capacity as usize - self.used.len()
    }

    pub(super) fn allocate(&mut self) -> Result<u32, EditError> {
        if let Some(index) = self.free.pop() {
            return Ok(index);
        }
        if self.used.len() >= self.capacity as usize {
            return Err(EditError::Full(self.name.into()));
        }
        self.used.push(None);
        Ok(self.used.len() as u32 - 1)
    }

    /// Puts an adopted value where the memory has it.
    pub(super) fn place(&mut self, index: u32, value: T) {
        while self.used.len() <= index as usize {
            self.free.push(self.used.len() as u32);
            self.used.push(None);
        }
        self.used[index as usize] = Some(value);
    }

    /// Forgets the free slots below those in use, and counts them anew.
    pub(super) fn count_free(&mut self) {
        let slots = self.used.iter().enumerate().rev();
        self.free = slots
            .filter(|(_, s)| s.is_none())
            .map(|(i, _)| i as u32)
            .collect();
    }

    /// Gives up a slot that nothing refers to any more.
    pub(super) fn free(&mut self, index: u32) {
        if let Some(slot) = self.used.get_mut(index as usize)
            && slot.take().is_some()
        {
            self.free.push(index);
        }
    }
}
