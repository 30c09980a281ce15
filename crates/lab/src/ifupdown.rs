//! The part of Debian's `/etc/network/interfaces` that the cases use: `iface`
//! stanzas with a static IPv4 address, and aliases such as `ens224:30`.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};

use crate::topology::Address;

/// Reads the addresses of each interface, in the file's order. Aliases are
/// addresses of their interface, with the alias as label.
///
/// An error names the line, counted from 1, and what was expected there.
pub fn parse(text: &str) -> Result<Vec<(String, Vec<Address>)>> {
    let mut interfaces: Vec<(String, Vec<Address>)> = Vec::new();
    let mut stanza: Option<Stanza> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (None, _) => {}
            (Some(word), _) if word.starts_with('#') => {}
            (Some("auto"), Some(_)) => finish(stanza.take(), &mut interfaces)?,
            (Some("iface"), Some(name)) => {
                finish(stanza.take(), &mut interfaces)?;
                if words.eq(["inet", "static"]) {
                    stanza = Some(Stanza {
                        name: name.into(),
                        address: None,
                        netmask: None,
                    });
                }
            }
            (Some(keyword @ ("address" | "netmask")), Some(value)) => {
                let stanza = stanza.as_mut().with_context(|| {
                    format!("line {number}: {keyword} outside a static interface")
                })?;
                let value = value
                    .parse()
                    .with_context(|| format!("line {number}: {value} is not an IPv4 address"))?;
                let place = if keyword == "address" {
                    &mut stanza.address
                } else {
                    &mut stanza.netmask
                };
                *place = Some(value);
            }
            _ => bail!("line {number}: expected auto, iface, address or netmask: {line}"),
        }
    }
    finish(stanza, &mut interfaces)?;
    Ok(interfaces)
}

struct Stanza {
    name: String,
    address: Option<Ipv4Addr>,
    netmask: Option<Ipv4Addr>,
}

fn finish(stanza: Option<Stanza>, interfaces: &mut Vec<(String, Vec<Address>)>) -> Result<()> {
    let Some(Stanza {
        name,
        address,
        netmask,
    }) = stanza
    else {
        return Ok(());
    };
    let address = address.with_context(|| format!("interface {name} has no address"))?;
    let netmask = netmask
        .with_context(|| format!("interface {name} has no netmask"))?
        .to_bits();
    if netmask.leading_ones() + netmask.trailing_zeros() != 32 {
        bail!(
            "interface {name}: {} is not a netmask",
            Ipv4Addr::from_bits(netmask)
        );
    }
    let (device, label) = match name.split_once(':') {
        Some((device, _)) => (device, Some(name.clone())),
        None => (name.as_str(), None),
    };
    let address = Address {
        address,
        prefix: netmask.count_ones(),
        label,
    };
    match interfaces.iter_mut().find(|(name, _)| name == device) {
        Some((_, addresses)) => addresses.push(address),
        None => interfaces.push((device.into(), vec![address])),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_an_address_of_its_interface() -> Result<()> {
        let text = "auto lo\niface lo inet loopback\n\n# servers\nauto e0\niface e0 inet static\n\
                    address 10.0.0.1\nnetmask 255.255.0.0\nauto e0:3\niface e0:3 inet static\n\
                    address 10.0.0.3\nnetmask 255.255.255.0\n";
        let address = |host, prefix, label: Option<&str>| Address {
            address: Ipv4Addr::new(10, 0, 0, host),
            prefix,
            label: label.map(Into::into),
        };
        let expected = vec![(
            "e0".into(),
            vec![address(1, 16, None), address(3, 24, Some("e0:3"))],
        )];
        assert_eq!(parse(text)?, expected);
        Ok(())
    }

    #[test]
    fn errors_name_the_place() {
        let error = |text| parse(text).map_err(|error| error.to_string());
        assert_eq!(
            error("address 10.0.0.1"),
            Err("line 1: address outside a static interface".into())
        );
        let text = "iface e0 inet static\naddress 10.0.0.1\nnetmask 255.0.255.0";
        assert_eq!(
            error(text),
            Err("interface e0: 255.0.255.0 is not a netmask".into())
        );
        assert_eq!(
            error("iface e0 inet static"),
            Err("interface e0 has no address".into())
        );
        assert!(error("bond e0").is_err_and(|text| text.starts_with("line 1: expected auto")));
    }
}
