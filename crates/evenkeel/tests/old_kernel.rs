//! Evenkeel on an old kernel: Debian 12's own, Linux 6.1, in an emulated machine.
//!
//! That kernel has no TCX, another verifier, and older netlink messages.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use evenkeel_lab::apache::Apache;
use evenkeel_lab::host::Host;
use evenkeel_lab::topology::{Address, HostSpec, Topology};
use evenkeel_lab::vm::{Cable, Guest, Kit, Vm};
use evenkeel_lab::{http, sandbox, wait};

/// Longest that a guest may take to start, and a command in it to end. Emulation
/// is slow, on a busy machine the more so.
const LONG: Duration = Duration::from_mins(8);
/// What programs of the lab are told in a guest: to be patient, and not to try as many
/// packets as elsewhere.
const SLOW: &str = "EVENKEEL_PATIENCE=6 EVENKEEL_PACKETS=20000";
const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target");
const PROGRAM: &str = "/usr/sbin/evenkeel";
/// What a network of namespaces and the attachment take.
const MODULES: [&str; 5] = ["veth", "bridge", "sch_ingress", "cls_bpf", "cls_u32"];

/// Tests of the kernel's side that run there, too, and which of them: of those that send
/// random packets one for each program; and none whose outcome is no matter of the kernel's
/// version, since each loads all programs, which takes a minute there on a busy machine.
const KERNEL_TESTS: [(&str, &str); 4] = [
    (
        "differential",
        "--exact xdp_and_the_host_agree tc_and_the_host_agree",
    ),
    (
        "attach",
        "--skip names_with_dots --skip one_slot --skip no_more_than_it_keeps \
         --skip its_successors",
    ),
    (
        "dataplane",
        "what_was_written object_loads clock_runs nobodys_passes another_build replacing_programs",
    ),
    ("network", ""),
];

const VIP: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 100);
/// A host on each of the director's network cards: the client and two servers.
/// Name, its address, and the director's.
const HOSTS: [(&str, [u8; 4], [u8; 4]); 3] = [
    ("client", [10, 10, 0, 2], [10, 10, 0, 1]),
    ("first", [10, 20, 1, 2], [10, 20, 1, 1]),
    ("second", [10, 20, 2, 2], [10, 20, 2, 1]),
];

/// A guest, or nothing where there is nothing to make it with; then it says why.
fn guest(name: &str) -> Result<Option<Guest>> {
    let kit = match Kit::find(&Path::new(TARGET).join("vm")) {
        Ok(kit) => kit,
        Err(error) => {
            println!("skipped: {error:#}");
            return Ok(None);
        }
    };
    assert!(kit.release().starts_with("6.1."), "{}", kit.release());
    let mut guest = Guest::new(&kit, name)?;
    guest.modules(&MODULES)?;
    Ok(Some(guest))
}

/// [`guest`] with the program in it.
fn director(name: &str) -> Result<Option<Guest>> {
    let mut guest = guest(name)?;
    if let Some(guest) = &mut guest {
        guest.built(Path::new(env!("CARGO_BIN_EXE_evenkeel")), PROGRAM)?;
    }
    Ok(guest)
}

#[test]
fn every_point_of_case1_holds() {
    sandbox::run_test(|| {
        let Some(mut guest) = director("case1")? else {
            return Ok(());
        };
        guest
            .program("apache2")?
            .directory(Path::new("/usr/lib/apache2/modules"))?;
        let mut vm = Vm::boot(&guest, LONG)?;
        let text = vm.expect(&format!("{SLOW} evenkeel lab case1"), LONG)?;
        println!("{text}");
        let passed = text.lines().filter(|line| line.starts_with("PASS "));
        let verdict = format!("{} passed, 0 failed", passed.count());
        assert_eq!(text.trim_end().lines().last(), Some(verdict.as_str()));
        for point in ["PASS 1 ", "PASS 2 ", "PASS 3 ", "PASS + "] {
            assert!(text.contains(point), "{point}");
        }
        Ok(())
    });
}

#[test]
fn the_tests_of_the_kernels_side_pass() {
    sandbox::run_test(|| {
        let Some(mut guest) = guest("tests")? else {
            return Ok(());
        };
        guest.modules(&["tun"])?;
        let mut found = Vec::new();
        for (name, which) in KERNEL_TESTS {
            let Some(file) = test_program(name)? else {
                println!("skipped: {name}, which is not built; `cargo nextest run --workspace`");
                continue;
            };
            guest.built(&file, &format!("/usr/bin/{name}"))?;
            found.push((name, which));
        }
        let object = Path::new(TARGET).join("bpf/evenkeel.bpf.o");
        guest.file(&object, "/evenkeel.bpf.o");
        let mut vm = Vm::boot(&guest, LONG)?;
        vm.expect("modprobe tun", LONG)?;
        for (name, which) in found {
            let text = vm.expect(
                &format!("{SLOW} EVENKEEL_BPF_OBJECT=/evenkeel.bpf.o {name} {which}"),
                LONG,
            )?;
            println!("{text}");
            let ran = text.contains("test result: ok. ") && !text.contains("ok. 0 passed");
            assert!(ran, "{name} ran no test");
        }
        Ok(())
    });
}

/// Puts one of the lab's test programs into a guest. False: it is not built, and said so.
fn add_tests(guest: &mut Guest, name: &str) -> Result<bool> {
    let Some(tests) = test_program(name)? else {
        println!("skipped: {name} is not built; `cargo nextest run --workspace`");
        return Ok(false);
    };
    guest.built(&tests, &format!("/usr/bin/{name}"))?;
    Ok(true)
}

/// Runs those of a lab's test program whose names contain `which`; they say this, and so many
/// pass.
fn run_tests(vm: &mut Vm, name: &str, which: &str, passed: u32) -> Result<String> {
    let environment = format!("{SLOW} EVENKEEL_PROGRAM={PROGRAM}");
    let text = vm.expect(&format!("{environment} {name} --nocapture {which}"), LONG)?;
    println!("{text}");
    let verdict = format!("test result: ok. {passed} passed");
    assert!(text.contains(&verdict), "{name} {which}");
    Ok(text)
}

/// The kernel of the machine the tests run on may have no VLAN interfaces, and leave
/// that part of these tests out. This one has.
#[test]
fn frames_with_vlan_tags_pass() {
    sandbox::run_test(|| {
        let Some(mut guest) = director("vlan")? else {
            return Ok(());
        };
        if !add_tests(&mut guest, "lab_dataplane")? {
            return Ok(());
        }
        guest
            .program("ethtool")?
            .program("nginx")?
            .modules(&["8021q"])?;
        let mut vm = Vm::boot(&guest, LONG)?;
        let text = run_tests(&mut vm, "lab_dataplane", "others_frames_pass", 2)?;
        assert!(!text.contains("not tried"), "the guest has no VLANs either");
        Ok(())
    });
}

/// The kernel of the machine the tests run on may have no tunnels, and leave these out.
/// This one has.
#[test]
fn tunnels_lead_to_real_servers() {
    sandbox::run_test(|| {
        let Some(mut guest) = director("tunnels")? else {
            return Ok(());
        };
        if !add_tests(&mut guest, "lab_realserver")? {
            return Ok(());
        }
        guest.modules(&["ipip", "ip6_tunnel", "ip_gre", "ip6_gre", "fou", "fou6"])?;
        let mut vm = Vm::boot(&guest, LONG)?;
        let text = run_tests(&mut vm, "lab_realserver", "tunnels", 1)?;
        assert!(!text.contains("skipped"), "the guest has no tunnels either");
        Ok(())
    });
}

/// Neither may the kernel of the machine have SCTP. This one has; and what comes out of its
/// tunnels' devices was right by their measure, at real servers and at the director.
#[test]
fn every_tunnel_and_sctp() {
    sandbox::run_test(|| {
        let Some(mut guest) = director("matrix")? else {
            return Ok(());
        };
        let Some(tests) = test_program("lab_matrix")? else {
            println!("skipped: lab_matrix is not built; `cargo nextest run --workspace`");
            return Ok(());
        };
        guest
            .program("ethtool")?
            .program("apache2")?
            .directory(Path::new("/usr/lib/apache2/modules"))?
            .modules(&[
                "sit",
                "ipip",
                "ip6_tunnel",
                "ip_gre",
                "ip6_gre",
                "fou",
                "fou6",
            ])?
            .modules(&["sctp"])?
            .built(&tests, "/usr/bin/lab_matrix")?;
        let mut vm = Vm::boot(&guest, LONG)?;
        for module in ["devices::", "tunnelled::"] {
            let command = format!("lab_matrix --nocapture {module}");
            let text = vm.expect(
                &format!("{SLOW} EVENKEEL_PROGRAM={PROGRAM} {command}"),
                LONG,
            )?;
            println!("{text}");
            assert!(text.contains("test result: ok. 1 passed"));
            assert!(
                !text.contains("skipped"),
                "the guest has not all of it either"
            );
        }
        Ok(())
    });
}

/// The newest build of one of the kernel crate's test programs. It lies beside
/// this one, under a name that is not known here.
fn test_program(name: &str) -> Result<Option<PathBuf>> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let directory = own.parent().context("this program is in no directory")?;
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let file = path.file_name().and_then(|file| file.to_str());
        let Some((stem, hash)) = file.and_then(|file| file.rsplit_once('-')) else {
            continue;
        };
        // Beside the program lies a list of what it was made of, with an ending.
        if stem != name || hash.contains('.') {
            continue;
        }
        // One that a build takes away at this moment is none.
        if let Ok(time) = fs::metadata(&path).and_then(|file| file.modified()) {
            newest = newest.max(Some((time, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

#[test]
fn a_director_between_network_cards() {
    sandbox::run_test(|| {
        let Some(mut rig) = Rig::build()? else {
            return Ok(());
        };
        let untouched = rig.traces()?;
        rig.start("")?;
        for command in [
            format!("-A -t {VIP}:80 -s rr"),
            format!("-a -t {VIP}:80 -r 10.20.1.2:80 -m"),
            format!("-a -t {VIP}:80 -r 10.20.2.2:80 -m"),
        ] {
            rig.vm
                .expect(&format!("evenkeel ipvsadm {command}"), LONG)?;
        }
        rig.expect_hooks("xdp+tc (clsact)")?;
        rig.expect_turns()?;
        rig.expect_redirection()?;

        rig.kill_daemon()?;
        rig.expect_turns()?;
        // Another setting takes XDP off again.
        rig.start("--hook tc")?;
        let status = rig.expect_hooks("tc (clsact)")?;
        assert!(status.contains("found running and taken over"), "{status}");
        rig.expect_turns()?;

        rig.kill_daemon()?;
        let removed = rig.vm.expect("evenkeel purge", LONG)?;
        assert!(removed.contains("removed "), "{removed}");
        assert_eq!(rig.traces()?, untouched);
        Ok(())
    });
}

/// The hosts, without a network yet.
fn hosts() -> Result<Vec<Host>> {
    let specs = HOSTS.map(|(name, ..)| HostSpec {
        name: name.into(),
        hostname: name.into(),
        interfaces: Vec::new(),
        gateway: None,
    });
    let topology = Topology {
        segments: Vec::new(),
        hosts: specs.into(),
    };
    topology.build()
}

/// A director in a guest, and hosts outside it at the ends of its cables.
struct Rig {
    vm: Vm,
    client: Host,
    /// Running as long as the rig is there.
    _apaches: Vec<Apache>,
}

impl Rig {
    fn build() -> Result<Option<Self>> {
        let Some(mut guest) = director("director")? else {
            return Ok(None);
        };
        guest.program("ethtool")?;
        let hosts = hosts()?;
        for (number, (host, (_, address, _))) in (0..).zip(hosts.iter().zip(HOSTS)) {
            guest.cable(Cable {
                mac: [2, 0, 0, 0, 0, number],
                host: host.clone(),
                interface: "eth0".into(),
                addresses: vec![Address::new(address, 24)],
            })?;
        }
        let mut vm = Vm::boot(&guest, LONG)?;
        for (number, (.., gateway)) in HOSTS.into_iter().enumerate() {
            let (card, gateway) = (format!("eth{number}"), Ipv4Addr::from(gateway));
            let script = format!("ip addr add {gateway}/24 dev {card} && ip link set {card} up");
            vm.expect(&script, LONG)?;
        }
        let script = "echo 1 >/proc/sys/net/ipv4/ip_forward && ip addr add dev eth0";
        vm.expect(&format!("{script} {VIP}/32"), LONG)?;
        let mut apaches = Vec::new();
        for (host, (name, address, gateway)) in hosts.iter().zip(HOSTS) {
            let gateway = Ipv4Addr::from(gateway).to_string();
            let words = ["route", "add", "default", "via", &gateway];
            let output = host.output(Command::new("ip").args(words))?;
            assert!(output.status.success(), "{output:?}");
            if name != "client" {
                let mut apache = Apache::start(host, &[SocketAddr::from((address, 80))], name)?;
                apache.wait_ready(host, LONG)?;
                apaches.push(apache);
            }
        }
        let client = hosts.into_iter().next().context("no client")?;
        Ok(Some(Self {
            vm,
            client,
            _apaches: apaches,
        }))
    }

    /// Starts the daemon and waits until it answers and knows where to send to.
    fn start(&mut self, arguments: &str) -> Result<()> {
        let command = format!("evenkeel run {arguments} >>/run/log 2>&1 & echo $! >/run/pid");
        self.vm.expect(&command, LONG)?;
        let waited = wait::until(LONG, "the daemon to answer", || {
            let output = self
                .vm
                .run("kill -0 $(cat /run/pid) && evenkeel status", LONG);
            match output {
                Ok(output) if output.status == 0 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        waited.with_context(|| self.log())
    }

    fn kill_daemon(&mut self) -> Result<()> {
        let command =
            "kill -9 $(cat /run/pid); while [ -e /proc/$(cat /run/pid) ]; do sleep 0.1; done";
        self.vm.expect(command, LONG).map(drop)
    }

    fn log(&mut self) -> String {
        let output = self.vm.run("cat /run/log", LONG);
        output.map_or_else(|error| error.to_string(), |output| output.text)
    }

    /// The status, which shows this hook on all three cards.
    fn expect_hooks(&mut self, hook: &str) -> Result<String> {
        let status = self.vm.expect("evenkeel status", LONG)?;
        for number in 0..HOSTS.len() {
            let start = format!("  eth{number}  {hook}  ");
            if !status.lines().any(|line| line.starts_with(&start)) {
                bail!("eth{number} has not {hook}:\n{status}\n{}", self.log());
            }
        }
        Ok(status)
    }

    /// Loads the page four times over connections of their own, which the servers
    /// answer in turn.
    fn expect_turns(&mut self) -> Result<()> {
        let mut pages = Vec::new();
        for _ in 0..4 {
            let page = self.page().with_context(|| self.log())?;
            pages.push(page);
        }
        let turns = pages.windows(2).all(|pair| pair[0] != pair[1]);
        let servers = |page: &String| ["first", "second"].contains(&page.as_str());
        assert!(turns && pages.iter().all(servers), "{pages:?}");
        Ok(())
    }

    fn page(&self) -> Result<String> {
        Ok(http::get(&self.client, SocketAddr::from((VIP, 80)))?.body)
    }

    /// Loads the page until XDP itself has sent packets on to a server. Before the
    /// daemon knows the way there, it is tc that does.
    fn expect_redirection(&mut self) -> Result<()> {
        wait::until(LONG, "packets that XDP forwards", || {
            self.page().map_err(|error| format!("{error:#}"))?;
            match self.redirected() {
                Ok(1..) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
    }

    /// Packets that XDP has sent on from the client's card to a server's.
    fn redirected(&mut self) -> Result<u64> {
        let statistics = self.vm.expect("ethtool -S eth0", LONG)?;
        let counts = statistics.lines().filter_map(|line| {
            let (name, count) = line.trim().split_once(": ")?;
            let is_it = name.starts_with("rx_") && name.ends_with("_xdp_redirects");
            is_it.then(|| count.parse::<u64>())
        });
        let sum: Result<u64, _> = counts.sum();
        sum.context("not a count")
    }

    /// What there is of Evenkeel in the guest: pins, sockets, filters, XDP.
    fn traces(&mut self) -> Result<String> {
        let command = "ls -d /sys/fs/bpf/evenkeel/* /run/evenkeel/* 2>/dev/null; \
                       tc qdisc show; tc filter show dev eth0 ingress; \
                       ip -d link show | grep xdp; true";
        self.vm.expect(command, LONG)
    }
}
