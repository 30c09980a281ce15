//! Samples of the counters: what listings show, and the traffic by second.

use alloc::vec;
use alloc::vec::Vec;

use evenkeel_datapath::memory::Memory;

use super::Director;
use super::listing::counted;
use crate::estimate::{Average, Estimate, count};
use crate::model::{Edit, Rates, Stats, Sysctl};

/// Servers that are counted at a time: their sums stay close to the processor.
const BLOCK: usize = 512;

/// What was sampled, by the slots of servers and services.
#[derive(Debug, Default)]
pub(super) struct Estimates {
    /// True: samples are taken, and listings show them. Else they show what is
    /// counted.
    begun: bool,
    servers: Vec<Estimate>,
    services: Vec<Average>,
}

impl Estimates {
    /// What a server's counters show.
    pub(super) fn counted(&self, memory: &Memory<'_>, server: u32) -> Stats {
        if !self.begun {
            return counted(memory, server);
        }
        let estimate = self.servers.get(server as usize);
        estimate.map_or_else(Stats::default, Estimate::counted)
    }

    /// A server's traffic.
    pub(super) fn of_server(&self, index: u32) -> Rates {
        let estimate = self.servers.get(index as usize);
        estimate.map_or_else(Rates::default, Estimate::rates)
    }

    /// A service's traffic.
    pub(super) fn of_service(&self, index: u32) -> Rates {
        let average = self.services.get(index as usize);
        average.map_or_else(Rates::default, Average::shown)
    }

    /// A server's slot is for another now, with counters from 0.
    pub(super) fn forget_server(&mut self, index: u32) {
        if let Some(estimate) = self.servers.get_mut(index as usize) {
            *estimate = Estimate::default();
        }
    }

    /// A service is another now, or has no traffic yet.
    pub(super) fn forget_service(&mut self, index: u32) {
        if let Some(average) = self.services.get_mut(index as usize) {
            *average = Average::default();
        }
    }
}

impl Director {
    /// Takes a sample of all counters, unless `run_estimation` is 0. To be called every
    /// [`INTERVAL_MS`](crate::estimate::INTERVAL_MS).
    pub fn sample(&mut self, memory: &Memory<'_>) {
        if !self.state.sysctls.is_set(Sysctl::RunEstimation) {
            return;
        }
        let is_first = !self.estimates.begun;
        self.estimates.begun = true;
        let Some(last) = self.state.servers().iter().map(|(index, _)| index).last() else {
            return;
        };
        let servers = &mut self.estimates.servers;
        if servers.len() <= last as usize {
            servers.resize(last as usize + 1, Estimate::default());
        }
        let mut brought = vec![Stats::default(); memory.services.len()];
        let mut sums = vec![Stats::default(); BLOCK];
        let mut in_use = self.state.servers().iter().peekable();
        while let Some(&(first, _)) = in_use.peek() {
            let first = first as usize;
            let sums = &mut sums[..BLOCK.min(last as usize + 1 - first)];
            count(memory, first, sums);
            while let Some((index, server)) =
                in_use.next_if(|(index, _)| (*index as usize) < first + sums.len())
            {
                let (estimate, now) = (&mut servers[index as usize], sums[index as usize - first]);
                if is_first {
                    // What was counted before anyone looked is no traffic of now.
                    *estimate = Estimate::at(now);
                } else if let Some(sum) = brought.get_mut(server.service as usize) {
                    *sum = sum.plus(&estimate.sample(now));
                }
            }
        }
        let services = &mut self.estimates.services;
        services.resize(memory.services.len(), Average::default());
        for (average, brought) in services.iter_mut().zip(&brought) {
            average.bring(brought);
        }
    }

    /// After edits that were not refused: what was zeroed has no traffic either.
    pub(super) fn calm(&mut self, edits: &[Edit], is_refused: impl Fn(usize) -> bool) {
        for (index, edit) in edits.iter().enumerate() {
            let Edit::Zero { service } = edit else {
                continue;
            };
            if is_refused(index) {
                continue;
            }
            match service {
                None => {
                    self.estimates.servers.iter_mut().for_each(Estimate::calm);
                    self.estimates.services.clear();
                }
                Some(key) => {
                    let Some(index) = self.live_service(key) else {
                        continue;
                    };
                    self.estimates.forget_service(index);
                    let head = self.state.services().get(index).map(|s| s.head);
                    for (server, _) in head.into_iter().flat_map(|head| self.state.list(head)) {
                        if let Some(estimate) = self.estimates.servers.get_mut(server as usize) {
                            estimate.calm();
                        }
                    }
                }
            }
        }
    }
}
