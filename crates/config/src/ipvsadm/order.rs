//! The order of listings.
//!
//! `ipvsadm` compares addresses by subtracting them and looking at the sign of
//! the 32-bit result, so that 192.168.0.0 stands before 10.0.0.0. That is no
//! order in the mathematical sense, and what comes out depends on the way of
//! sorting: here as in the C library, by merging halves.

use core::net::{IpAddr, Ipv4Addr};

use evenkeel_core::model::{Family, ServerView, ServiceKey, ServiceView};

/// Sorts by a comparison that need not be transitive. Negative or 0: `a` first.
fn merge_sort<T: Copy>(items: &[T], compare: &impl Fn(T, T) -> i32) -> Vec<T> {
    if items.len() <= 1 {
        return items.to_vec();
    }
    let (left, right) = items.split_at(items.len() / 2);
    let (left, right) = (merge_sort(left, compare), merge_sort(right, compare));
    let (mut left, mut right) = (left.as_slice(), right.as_slice());
    let mut sorted = Vec::with_capacity(items.len());
    while let ([a, left_rest @ ..], [b, right_rest @ ..]) = (left, right) {
        if compare(*a, *b) <= 0 {
            sorted.push(*a);
            left = left_rest;
        } else {
            sorted.push(*b);
            right = right_rest;
        }
    }
    sorted.extend_from_slice(left);
    sorted.extend_from_slice(right);
    sorted
}

fn first_difference(differences: impl IntoIterator<Item = i32>) -> i32 {
    differences
        .into_iter()
        .find(|&difference| difference != 0)
        .unwrap_or(0)
}

fn word_difference(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

/// An address as four words; one of IPv4 is the first.
fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => [address.to_bits(), 0, 0, 0],
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
        }
    }
}

/// The family of the first says how many words are compared.
fn address_difference(a: IpAddr, b: IpAddr) -> i32 {
    let count = if a.is_ipv6() { 4 } else { 1 };
    let pairs = words(a).into_iter().zip(words(b)).take(count);
    first_difference(pairs.map(|(a, b)| word_difference(a, b)))
}

/// What a service is compared by: its mark, 0 without one; whether it is IPv6's;
/// protocol, address and port, 0 for a mark.
fn parts(key: &ServiceKey) -> (u32, bool, u8, IpAddr, u16) {
    match *key {
        ServiceKey::Address {
            protocol,
            address,
            port,
        } => (0, address.is_ipv6(), protocol.number(), address, port),
        ServiceKey::Mark { mark, family } => {
            let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            (mark, family == Family::V6, 0, nowhere, 0)
        }
    }
}

/// By mark, with none counting as 0; then IPv4 first, then by protocol, address and
/// port.
pub(super) fn services<'a>(services: &[&'a ServiceView]) -> Vec<&'a ServiceView> {
    merge_sort(services, &|a: &ServiceView, b: &ServiceView| {
        let (a, b) = (parts(&a.key), parts(&b.key));
        first_difference([
            word_difference(a.0, b.0),
            i32::from(a.1) - i32::from(b.1),
            i32::from(a.2) - i32::from(b.2),
            address_difference(a.3, b.3),
            i32::from(a.4) - i32::from(b.4),
        ])
    })
}

/// By address, then by port.
pub(super) fn servers<'a>(servers: &[&'a ServerView]) -> Vec<&'a ServerView> {
    merge_sort(servers, &|a: &ServerView, b: &ServerView| {
        let (a, b) = (&a.key, &b.key);
        first_difference([
            address_difference(a.address, b.address),
            i32::from(a.port) - i32::from(b.port),
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_equal_things_in_place() {
        let items = [(2, 'a'), (1, 'b'), (2, 'c'), (1, 'd'), (3, 'e')];
        let sorted = merge_sort(&items, &|a: (i32, char), b: (i32, char)| a.0 - b.0);
        assert_eq!(sorted, [(1, 'b'), (1, 'd'), (2, 'a'), (2, 'c'), (3, 'e')]);
    }

    #[test]
    fn addresses_are_compared_by_the_sign_of_their_difference() {
        let difference =
            |a: &str, b: &str| address_difference(a.parse().unwrap(), b.parse().unwrap());
        assert!(difference("192.168.1.1", "10.0.0.1") < 0);
        assert!(difference("10.0.0.1", "10.0.0.2") < 0);
        assert!(difference("2001:db8::2", "2001:db8::1") > 0);
    }
}
