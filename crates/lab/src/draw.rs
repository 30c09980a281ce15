//! A drawing of a network with one host in its middle, in ASCII.

use crate::topology::{HostSpec, Interface, Topology};

/// Draws hosts on `left` and `right` of the host `middle`, which has an
/// interface in each of these two segments.
#[must_use]
pub fn draw(topology: &Topology, left: &str, middle: &str, right: &str) -> String {
    let Some(center) = topology.hosts.iter().find(|host| host.name == middle) else {
        return String::new();
    };
    let left_rows = side(topology, middle, left, |host, port| {
        format!("{host}  {port} --")
    });
    let right_rows = side(topology, middle, right, |host, port| {
        format!("-- {port}  {host}")
    });
    let boxed = framed(center, left, right);
    let height = left_rows.len().max(right_rows.len()).max(boxed.len());
    let width = |rows: &[String]| rows.iter().map(String::len).max().unwrap_or(0);
    let (left_width, box_width) = (width(&left_rows), width(&boxed));

    let mut text = String::new();
    for row in 0..height {
        let at = |rows: &[String]| rows.get(row).cloned().unwrap_or_default();
        let line = format!(
            "{:>left_width$}{}{:box_width$}{}{}",
            at(&left_rows),
            bus(row, left_rows.len(), true),
            at(&boxed),
            bus(row, right_rows.len(), false),
            at(&right_rows),
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The vertical line that a side's hosts hang on, tapped towards the middle in row 1.
fn bus(row: usize, rows: usize, tap_after: bool) -> &'static str {
    let on_bus = row < rows || row == 1;
    match (on_bus, row == 1, tap_after) {
        (false, ..) => "     ",
        (true, true, true) => "+----",
        (true, true, false) => "----+",
        (true, false, true) if row.is_multiple_of(2) => "+    ",
        (true, false, false) if row.is_multiple_of(2) => "    +",
        (true, false, true) => "|    ",
        (true, false, false) => "    |",
    }
}

/// The hosts of a segment, every other row.
fn side(
    topology: &Topology,
    middle: &str,
    segment: &str,
    form: impl Fn(&str, &str) -> String,
) -> Vec<String> {
    let mut rows = Vec::new();
    for host in topology.hosts.iter().filter(|host| host.name != middle) {
        for interface in host
            .interfaces
            .iter()
            .filter(|port| port.segment == segment)
        {
            if !rows.is_empty() {
                rows.push(String::new());
            }
            rows.push(form(&host.name, &addresses(interface).join(" ")));
        }
    }
    rows
}

fn addresses(interface: &Interface) -> Vec<String> {
    interface
        .addresses
        .iter()
        .map(|a| format!("{}/{}", a.address, a.prefix))
        .collect()
}

/// The host in the middle: its name, then its two interfaces side by side.
fn framed(host: &HostSpec, left: &str, right: &str) -> Vec<String> {
    let column = |segment: &str| -> Vec<String> {
        let ports = host
            .interfaces
            .iter()
            .filter(|port| port.segment == segment);
        ports
            .flat_map(|port| std::iter::once(port.name.clone()).chain(addresses(port)))
            .collect()
    };
    let (left, right) = (column(left), column(right));
    let width = |cells: &[String]| cells.iter().map(String::len).max().unwrap_or(0);
    let (left_width, right_width) = (width(&left), width(&right));
    let border = format!("+{}+", "-".repeat(left_width + right_width + 5));
    let mut rows = vec![border.clone()];
    for row in 0..left.len().max(right.len()) {
        let cell = |cells: &[String]| cells.get(row).cloned().unwrap_or_default();
        rows.push(format!(
            "| {:left_width$}   {:>right_width$} |",
            cell(&left),
            cell(&right)
        ));
    }
    rows.push(border);
    rows.push(format!(" {} ({})", host.hostname, host.name));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Address, Segment, Wiring};

    #[test]
    fn the_middle_stands_between_its_sides() {
        let host = |name: &str, segment: &str, last| {
            HostSpec::single(name, "e", segment, Address::new([10, 0, 0, last], 24), None)
        };
        let mut middle = host("lb", "in", 1);
        middle.interfaces.push(Interface {
            name: "f".into(),
            segment: "out".into(),
            addresses: vec![],
        });
        let segment = |name: &str| Segment {
            name: name.into(),
            wiring: Wiring::Switch,
        };
        let topology = Topology {
            segments: vec![segment("in"), segment("out")],
            hosts: vec![
                middle,
                host("A", "in", 2),
                host("B", "in", 3),
                host("s", "out", 4),
            ],
        };
        let expected = "\
A  10.0.0.2/24 --+    +-----------------+    +-- 10.0.0.4/24  s
                 +----| e             f |----+
B  10.0.0.3/24 --+    | 10.0.0.1/24     |
                      +-----------------+
                       lb (lb)
";
        assert_eq!(draw(&topology, "in", "lb", "out"), expected);
    }
}
