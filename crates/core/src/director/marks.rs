//! Rules that mark packets.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::sync::atomic::{Ordering, fence};

use evenkeel_datapath::layout::{self, Address, MARK_PORTS, MARK_RULES, features, mark_flags};
use evenkeel_datapath::memory::Memory;

use super::Director;
use super::records::{read_words, words, write_words};
use super::write::Write;
use crate::model::{EditError, Family, MarkRule, Prefix, Protocol};

/// [`layout::MarkRule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkRecord {
    /// [`layout::MarkRule::flags`]
    pub flags: u32,
    /// [`layout::MarkRule::mark`]
    pub mark: u32,
    /// [`layout::MarkRule::interface`]
    pub interface: u32,
    /// [`layout::MarkRule::source`]
    pub source: Address,
    /// [`layout::MarkRule::source_mask`]
    pub source_mask: Address,
    /// [`layout::MarkRule::destination`]
    pub destination: Address,
    /// [`layout::MarkRule::destination_mask`]
    pub destination_mask: Address,
    /// [`layout::MarkRule::ports`]
    pub ports: [u32; MARK_PORTS],
}

/// An address and the mask that others are looked at through. No prefix: both 0.
fn masked(prefix: Option<Prefix>) -> (Address, Address) {
    let Some(Prefix { address, bits }) = prefix else {
        return ([0; 4], [0; 4]);
    };
    let bits = match address {
        IpAddr::V4(_) => 96 + u32::from(bits).min(32),
        IpAddr::V6(_) => u32::from(bits).min(128),
    };
    let mask = core::array::from_fn(|word| {
        let of_word = bits.saturating_sub(32 * word as u32).min(32);
        // The upper bits of a number in network order.
        u32::MAX
            .checked_shr(of_word)
            .map_or(u32::MAX, |rest| !rest)
            .to_be()
    });
    let words = words(address);
    (core::array::from_fn(|word| words[word] & mask[word]), mask)
}

impl MarkRecord {
    fn of(rule: &MarkRule, interface: u32) -> Result<Self, EditError> {
        let is_sound = rule.mark != 0
            && rule.ports.len() <= MARK_PORTS
            && rule.ports.iter().all(|range| range.start() <= range.end());
        if !is_sound {
            return Err(EditError::OutOfRange);
        }
        let families = [rule.source, rule.destination].map(|prefix| {
            let prefix = prefix?;
            Some(Family::of(&prefix.address))
        });
        if matches!(families, [Some(one), Some(other)] if one != other) {
            return Err(EditError::Invalid);
        }
        let of_family = match rule.family() {
            Some(Family::V4) => mark_flags::IPV4,
            Some(Family::V6) => mark_flags::IPV6,
            None => mark_flags::IPV4 | mark_flags::IPV6,
        };
        let protocol = rule.protocol.map_or(0, Protocol::number);
        let (source, source_mask) = masked(rule.source);
        let (destination, destination_mask) = masked(rule.destination);
        let mut ports = [0; MARK_PORTS];
        for (word, range) in ports.iter_mut().zip(&rule.ports) {
            *word = u32::from(*range.start()) | u32::from(*range.end()) << 16;
        }
        Ok(Self {
            flags: of_family
                | u32::from(protocol) << mark_flags::PROTOCOL_SHIFT
                | (rule.ports.len() as u32) << mark_flags::PORTS_SHIFT,
            mark: rule.mark,
            interface,
            source,
            source_mask,
            destination,
            destination_mask,
            ports,
        })
    }

    fn read(rule: &layout::MarkRule) -> Self {
        Self {
            flags: rule.flags.get(),
            mark: rule.mark.get(),
            interface: rule.interface.get(),
            source: read_words(&rule.source),
            source_mask: read_words(&rule.source_mask),
            destination: read_words(&rule.destination),
            destination_mask: read_words(&rule.destination_mask),
            ports: core::array::from_fn(|at| rule.ports[at].get()),
        }
    }

    fn write(&self, rule: &layout::MarkRule) {
        rule.flags.set(self.flags);
        rule.mark.set(self.mark);
        rule.interface.set(self.interface);
        write_words(&rule.source, self.source);
        write_words(&rule.source_mask, self.source_mask);
        write_words(&rule.destination, self.destination);
        write_words(&rule.destination_mask, self.destination_mask);
        for (word, &range) in rule.ports.iter().zip(&self.ports) {
            word.set(range);
        }
    }
}

/// Writes rules where packets do not look now, and then makes them look there.
pub(super) fn write(memory: &Memory<'_>, records: &[MarkRecord]) {
    let rules = memory.mark_rules;
    let half = !rules.active.get() >> 16 & 1;
    for (rule, record) in rules.rules[half as usize].iter().zip(records) {
        record.write(rule);
    }
    fence(Ordering::SeqCst);
    rules.active.set(half << 16 | records.len() as u32);
}

fn present(memory: &Memory<'_>) -> Vec<MarkRecord> {
    let rules = memory.mark_rules;
    let active = rules.active.get();
    let half = &rules.rules[(active >> 16 & 1) as usize];
    let count = active as usize & 0xffff;
    half.iter().take(count).map(MarkRecord::read).collect()
}

impl Director {
    /// Sets the rules that mark packets, in their order, each with the index of its
    /// interface, 0 where it has none.
    ///
    /// # Errors
    /// [`EditError::OutOfRange`] and [`EditError::Invalid`]: a rule, or their number, that
    /// can not be. Nothing has changed then.
    pub fn set_mark_rules<'r>(
        &mut self,
        rules: impl IntoIterator<Item = (&'r MarkRule, u32)>,
        memory: &Memory<'_>,
    ) -> Result<(), EditError> {
        let records = rules.into_iter().map(|(rule, i)| MarkRecord::of(rule, i));
        let records: Vec<MarkRecord> = records.collect::<Result<_, _>>()?;
        if records.len() > MARK_RULES {
            return Err(EditError::OutOfRange);
        }
        self.write_all(memory);
        let bit = if records.is_empty() {
            0
        } else {
            features::MARK_RULES
        };
        self.state.features.remove(self.rules_feature);
        self.state.features.add(bit);
        self.rules_feature = bit;
        self.state
            .set_rule_marks(records.iter().map(|record| record.mark));
        // Packets look for rules before there are some, and until there are none; and for
        // others' marks likewise.
        self.write_features(self.written_features | self.state.features.bits());
        if present(memory) != records {
            self.writes
                .push_back(Write::MarkRules(records.into_boxed_slice()));
        }
        self.write_features(self.state.features.bits());
        Ok(())
    }

    /// The rules that the memory has go on until others are set.
    pub(super) fn adopt_mark_rules(&mut self, memory: &Memory<'_>) {
        let rules = present(memory);
        self.state
            .set_rule_marks(rules.iter().map(|rule| rule.mark));
        if !rules.is_empty() {
            self.rules_feature = features::MARK_RULES;
            self.state.features.add(self.rules_feature);
        }
    }
}
