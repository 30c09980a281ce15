use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use evenkeel_config::native::{self, Config, PlacedService};
use evenkeel_core::director::AsOf;
use evenkeel_core::model::{
    Connect, Edit, Ends, ForwardMethod, Probe, Protocol, RealServer, ServerKey, ServerSettings,
    ServiceKey, Timing, VirtualServer,
};

use super::*;
use crate::configure;
use crate::dataplane::InMemory;

/// Servers that fail, and those whose checks never end.
#[derive(Default)]
struct Fake {
    bad: Mutex<HashSet<IpAddr>>,
    stuck: Mutex<HashSet<IpAddr>>,
    runs: AtomicUsize,
    told: Mutex<Vec<String>>,
}

impl Hands for Fake {
    fn run(&self, check: Arc<Check>) -> Run {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let Probe::Tcp(connect) = &check.probe else {
            panic!("{check:?}")
        };
        let address = connect.to.ip();
        let is_bad = self.bad.lock().unwrap().contains(&address);
        let is_stuck = self.stuck.lock().unwrap().contains(&address);
        Box::pin(async move {
            if is_stuck {
                std::future::pending::<()>().await;
            }
            if is_bad {
                Verdict::Failed("connection refused".into())
            } else {
                Verdict::Passed("connected".into())
            }
        })
    }

    fn tell(&self, news: News) {
        self.told.lock().unwrap().push(news.line);
    }
}

fn server(last: u8) -> ServerKey {
    ServerKey {
        address: [192, 168, 1, last].into(),
        port: 80,
    }
}

fn service() -> ServiceKey {
    ServiceKey::at(Protocol::Tcp, [10, 0, 0, 10], 80)
}

fn real(last: u8) -> RealServer {
    let to = (server(last).address, 80).into();
    let interval = Duration::from_millis(20);
    RealServer {
        checks: vec![Check {
            probe: Probe::Tcp(Connect::to(to, Duration::from_secs(1))),
            timing: Timing {
                interval,
                warmup: Duration::ZERO,
                retries: 0,
                retry_interval: interval,
            },
            starts_down: false,
            log_all_failures: false,
            weight: None,
        }],
        ..RealServer::unwatched(server(last), ServerSettings::new(ForwardMethod::Masq, 1))
    }
}

fn config(servers: &[u8]) -> Config {
    let text = "[[service]]\naddress = \"10.0.0.10\"\nport = 80\nscheduler = \"rr\"\n";
    let mut config = native::parse(text, "e.toml").unwrap();
    let PlacedService { service, .. } = &mut config.services[0];
    *service = VirtualServer {
        servers: servers.iter().map(|last| real(*last)).collect(),
        ..service.clone()
    };
    assert_eq!(service.ends, [Ends::of(self::service())]);
    config
}

/// A daemon over ordinary memory, with its monitor's task.
struct World {
    shared: Arc<Shared>,
    fake: Arc<Fake>,
    task: tokio::task::JoinHandle<()>,
}

impl World {
    fn start(dataplane: &Arc<InMemory>, servers: &[u8], adopted: bool) -> Self {
        let dataplane = Arc::clone(dataplane);
        let shared = Arc::new(Shared::new("test", dataplane, adopted));
        configure::apply(&shared, &config(servers), adopted, Vec::new()).unwrap();
        let fake = Arc::new(Fake::default());
        let task = tokio::spawn(run(Arc::clone(&shared), Arc::clone(&fake)));
        Self { shared, fake, task }
    }

    fn weights(&self) -> BTreeMap<u8, u32> {
        let services = self.shared.services(None, AsOf::Now).unwrap().services;
        let servers = services.iter().flat_map(|service| &service.servers);
        let last = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => 0,
        };
        servers
            .map(|server| (last(server.key.address), server.settings.weight))
            .collect()
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !what(self) {
            assert!(Instant::now() < deadline, "{:?}", self.shared.health());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_weights(&self, weights: &[(u8, u32)]) {
        let wanted = weights.iter().copied().collect();
        self.until(|world| world.weights() == wanted).await;
    }

    fn request(&self, edit: Edit) {
        let edits = vec![edit];
        let transaction = true;
        let response = self.shared.apply(&EditRequest { transaction, edits });
        assert!(response.refused.is_empty(), "{response:?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn set(servers: &Mutex<HashSet<IpAddr>>, lasts: &[u8]) {
    *servers.lock().unwrap() = lasts.iter().map(|last| server(*last).address).collect();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_follows_the_checks() {
    let dataplane = Arc::new(InMemory::new());
    let world = World::start(&dataplane, &[1, 2], false);
    world.until_weights(&[(1, 1), (2, 1)]).await;
    set(&world.fake.bad, &[2]);
    world.until_weights(&[(1, 1)]).await;
    world
        .until(|world| world.fake.told.lock().unwrap().len() == 2)
        .await;
    let told = world.fake.told.lock().unwrap().clone();
    assert_eq!(
        told,
        [
            "VS [10.0.0.10]:tcp:80 UP",
            "RS [192.168.1.2]:tcp:80 [10.0.0.10]:tcp:80 DOWN"
        ]
    );
    // What is done by hand stays, whatever becomes of checks.
    world.request(Edit::AddServer {
        service: service(),
        server: server(7),
        settings: ServerSettings::new(ForwardMethod::Masq, 3),
    });
    world.request(Edit::EditServer {
        service: service(),
        server: server(1),
        settings: ServerSettings::new(ForwardMethod::Masq, 0),
    });
    set(&world.fake.bad, &[]);
    world.until_weights(&[(1, 0), (2, 1), (7, 3)]).await;
    set(&world.fake.bad, &[1]);
    world.until_weights(&[(2, 1), (7, 3)]).await;
    set(&world.fake.bad, &[]);
    world.until_weights(&[(1, 0), (2, 1), (7, 3)]).await;
    // Another configuration puts back what it has; what it does not know stays.
    configure::reload(&world.shared, &config(&[1, 2, 3]), Vec::new()).unwrap();
    world.until_weights(&[(1, 1), (2, 1), (3, 1), (7, 3)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_never_ends_holds_up_no_other() {
    let dataplane = Arc::new(InMemory::new());
    let world = World::start(&dataplane, &[1, 2], false);
    set(&world.fake.stuck, &[1]);
    // It is begun once, and the other again and again.
    world
        .until(|world| {
            let health = world.shared.health();
            health[0].servers[0].checks[0].running && world.fake.runs.load(Ordering::Relaxed) > 20
        })
        .await;
    set(&world.fake.bad, &[2]);
    world.until_weights(&[(1, 1)]).await;
    // Without its server it is broken off.
    configure::reload(&world.shared, &config(&[2]), Vec::new()).unwrap();
    world
        .until(|world| world.shared.health()[0].servers.len() == 1)
        .await;
    set(&world.fake.bad, &[]);
    world.until_weights(&[(2, 1)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_daemon_does_not_revive_the_dead() {
    let dataplane = Arc::new(InMemory::new());
    let first = World::start(&dataplane, &[1, 2], false);
    set(&first.fake.bad, &[2]);
    first.until_weights(&[(1, 1)]).await;
    drop(first);
    let shared = Arc::new(Shared::new("test", Arc::clone(&dataplane) as Arc<_>, true));
    configure::apply(&shared, &config(&[1, 2]), true, Vec::new()).unwrap();
    let health = shared.health();
    assert!(health[0].servers[0].alive && !health[0].servers[1].alive);
    let next = World::start(&dataplane, &[1, 2], true);
    assert_eq!(next.weights().get(&2), None);
    next.until_weights(&[(1, 1), (2, 1)]).await;
}

#[test]
fn the_last_word_counts() {
    let settings = |weight| Some(ServerSettings::new(ForwardMethod::Masq, weight));
    let wants = vec![
        (service(), server(1), None),
        (service(), server(9), settings(1)),
        (service(), server(1), settings(2)),
        (service(), server(2), None),
    ];
    let last = last_words(wants.clone());
    assert_eq!(last, wants[1..]);
}
