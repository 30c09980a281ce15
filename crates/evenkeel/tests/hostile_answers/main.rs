//! Answers that nobody would give: random ones, and good ones that were changed. The readers
//! of checks bear them all, and pieces make no difference. The fuzz targets `probe_…` do the
//! same, with answers that they have learnt; both begin with those in `fuzz/seeds`.

mod cuts;
mod dns;
mod http;
mod keys;
mod smtp;
mod tls;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use cuts::Numbers;
use evenkeel::genhash::tls::{client, config};

/// How many of them there are for each reader.
const ANSWERS: u64 = 100_000;
/// How many threads share them.
const THREADS: u64 = 4;
/// Longest that a random answer is.
const LONGEST: usize = 300;

/// The good answers to begin with.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let files = fs::read_dir(directory.join(name)).expect("seeds");
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds for {name}");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn random(numbers: &mut Numbers, length: usize) -> Vec<u8> {
    let byte = |_| u8::try_from(numbers.below(256)).unwrap();
    (0..length).map(byte).collect()
}

/// One of the seeds, with one to six changes; or nothing but chance.
fn answer(numbers: &mut Numbers, seeds: &[Vec<u8>]) -> Vec<u8> {
    if numbers.below(8) == 0 {
        let length = numbers.below(LONGEST);
        return random(numbers, length);
    }
    let mut answer = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(answer.len() + 1);
        let to = at + numbers.below(answer.len() - at + 1);
        match numbers.below(6) {
            0 => answer.truncate(to),
            1 => drop(answer.drain(at..to)),
            2 => {
                let length = numbers.below(9);
                let bytes = random(numbers, length);
                answer.splice(at..at, bytes);
            }
            3 => {
                let other = &seeds[numbers.below(seeds.len())];
                let from = numbers.below(other.len() + 1);
                answer.splice(at..to, other[from..].iter().copied());
            }
            4 if answer.len() < 8192 => {
                let part = answer[at..to].to_vec();
                answer.splice(at..at, part);
            }
            _ => {
                if let Some(byte) = answer.get_mut(at) {
                    *byte ^= 1 << numbers.below(8);
                }
            }
        }
    }
    answer
}

/// Has all of them judged; how many were good.
fn judge_all(name: &str, judge: impl Fn(&[u8]) -> bool + Sync) -> usize {
    let seeds = seeds(name);
    thread::scope(|scope| {
        let run = |first: u64| {
            let (seeds, judge) = (&seeds, &judge);
            scope.spawn(move || {
                let all = (first..ANSWERS).step_by(usize::try_from(THREADS).unwrap());
                let judged = all.map(|index| {
                    let mut numbers = Numbers::from(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    judge(&answer(&mut numbers, seeds))
                });
                judged.filter(|good| *good).count()
            })
        };
        let runs: Vec<_> = (0..THREADS).map(run).collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    })
}

/// Some of the answers have to be good ones, and some not: else nothing was tried.
fn is_mixed(good: usize) -> bool {
    println!("{good} of {ANSWERS} are good");
    (100..90_000).contains(&good)
}

#[test]
fn pages_are_borne() {
    assert!(is_mixed(judge_all("probe_http", http::judge)));
}

#[test]
fn mail_servers_are_borne() {
    assert!(is_mixed(judge_all("probe_smtp", smtp::judge)));
}

#[test]
fn name_servers_are_borne() {
    assert!(is_mixed(judge_all("probe_dns", dns::judge)));
}

#[test]
fn tls_is_borne() {
    let config = config(keys::provider()).unwrap();
    let client = || client(Arc::clone(&config), None, Ipv4Addr::LOCALHOST.into()).unwrap();
    judge_all("probe_tls", |records| {
        tls::judge(client, records);
        false
    });
}
