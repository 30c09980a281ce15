//! Who does what the monitor asks for: runs checks, and tells news.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use evenkeel_api::delivery::Deliveries;
use evenkeel_config::native::Config;
use evenkeel_core::health::news::News;
use evenkeel_core::model::{Alerts, Check, Sorry};
use evenkeel_kernel::system;

use crate::checks::{self, Context};
use crate::monitor::{Hands, Run};
use crate::notify::Notifier;
use crate::script::Scripts;
use crate::sorry::SorryServer;

/// Longest that news of the end may take.
const FAREWELL: Duration = Duration::from_secs(3);

/// Runs checks and tells news, as one configuration after the other says.
pub struct Crew {
    context: RwLock<Arc<Context>>,
    notifier: Notifier,
    /// The built-in sorry servers, by their directories.
    sorry: Mutex<Vec<(Option<String>, SorryServer)>>,
    open_files: usize,
}

impl Crew {
    /// Begins. Has to be called in the daemon's runtime.
    #[must_use]
    pub fn start(alerts: &Alerts) -> Self {
        let open_files = system::raise_open_files();
        let context = Context::new(Scripts::new(alerts), open_files);
        Self {
            context: RwLock::new(Arc::new(context)),
            notifier: Notifier::start(alerts),
            sorry: Mutex::default(),
            open_files,
        }
    }

    /// Goes on with another configuration, which was accepted.
    pub fn reload(&self, config: &Config) {
        let context = Context::new(Scripts::new(&config.alerts), self.open_files);
        *self.context.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(context);
        self.notifier.reload(&config.alerts);
        let wanted = directories(config);
        self.sorry_servers()
            .retain(|(directory, _)| wanted.contains(directory));
    }

    /// Starts the built-in sorry servers that a configuration needs: their ports. Those of
    /// the one before stay. Has to be called in the daemon's runtime.
    pub fn sorry_ports(&self, config: &Config) -> anyhow::Result<Vec<(Option<String>, u16)>> {
        let mut servers = self.sorry_servers();
        for directory in directories(config) {
            if servers.iter().any(|(known, _)| *known == directory) {
                continue;
            }
            let path = directory.as_ref().map(PathBuf::from);
            let server = SorryServer::start(path).context("cannot start the sorry server")?;
            servers.push((directory, server));
        }
        let ports = servers.iter();
        Ok(ports
            .map(|(directory, server)| (directory.clone(), server.port()))
            .collect())
    }

    fn sorry_servers(&self) -> std::sync::MutexGuard<'_, Vec<(Option<String>, SorryServer)>> {
        self.sorry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of the news.
    #[must_use]
    pub fn deliveries(&self) -> Deliveries {
        self.notifier.deliveries()
    }

    /// Tells the last news, and waits for all that is not told yet, for a while.
    pub async fn finish(&self, news: Vec<News>) {
        for news in news {
            self.notifier.tell(news);
        }
        self.notifier.finish(FAREWELL).await;
    }
}

/// The directories of the built-in sorry servers that a configuration has.
fn directories(config: &Config) -> Vec<Option<String>> {
    let mut directories = Vec::new();
    for placed in &config.services {
        if let Some(Sorry::Builtin { directory }) = &placed.service.sorry
            && !directories.contains(directory)
        {
            directories.push(directory.clone());
        }
    }
    directories
}

impl Hands for Crew {
    fn run(&self, check: Arc<Check>) -> Run {
        let context = self.context.read().unwrap_or_else(PoisonError::into_inner);
        let context = Arc::clone(&context);
        Box::pin(async move { checks::run(&check.probe, &context).await })
    }

    fn tell(&self, news: News) {
        self.notifier.tell(news);
    }
}
