//! Pages by HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use evenkeel_core::model::{HttpProbe, Page, PageRegex};
use evenkeel_core::probe::Verdict;
use evenkeel_core::probe::http::pattern::{self, Pattern};
use evenkeel_core::probe::http::{Get, Plan};

use super::Context;
use super::stream::{Security, converse};

/// Fetches the pages one after the other, each on a connection of its own, up to the first
/// that is not as expected.
pub(super) async fn run(probe: &HttpProbe, context: &Context) -> Verdict {
    let mut last = Verdict::Failed("no page is configured".into());
    for page in &probe.pages {
        last = fetch(probe, page, context).await;
        if let (Verdict::Failed(reason), 2..) = (&last, probe.pages.len()) {
            return Verdict::Failed(format!("{}: {reason}", page.path));
        }
        if !last.is_good() {
            return last;
        }
    }
    match (last, probe.pages.len()) {
        (Verdict::Passed(words), count @ 2..) => {
            Verdict::Passed(format!("{count} pages, the last: {words}"))
        }
        (last, _) => last,
    }
}

async fn fetch(probe: &HttpProbe, page: &Page, context: &Context) -> Verdict {
    let pattern = match &page.regex {
        Some(regex) => match context.patterns.get(regex).await {
            Ok(pattern) => Some(pattern),
            Err(reason) => return Verdict::Failed(reason),
        },
        None => None,
    };
    let plan = Plan::matching(probe, page, pattern);
    let security = Security::of(probe.tls.as_ref(), page.host.as_deref());
    let mut get = Get::new(Arc::new(plan));
    converse(&probe.connect, security, &mut get, context).await
}

/// Expressions that pages are matched against, each made ready once for all pages that have
/// it.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    known: Mutex<HashMap<PageRegex, Arc<Pattern>>>,
}

impl Patterns {
    async fn get(&self, regex: &PageRegex) -> Result<Arc<Pattern>, String> {
        if let Some(pattern) = self.lock().get(regex) {
            return Ok(Arc::clone(pattern));
        }
        // It may take its time.
        let owned = regex.clone();
        let compiling = tokio::task::spawn_blocking(move || pattern::compile(&owned));
        let pattern = compiling
            .await
            .map_err(|_| "the daemon is about to end".to_owned())?;
        let pattern = Arc::new(pattern?);
        self.lock().insert(regex.clone(), Arc::clone(&pattern));
        Ok(pattern)
    }

    /// What nothing uses any more is forgotten.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PageRegex, Arc<Pattern>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
