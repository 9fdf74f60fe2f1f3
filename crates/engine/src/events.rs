//! The events service: what happened, to whoever listens, with a short memory for `since`.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{Stream, StreamExt, stream};
use hull_api::events::{EventActor, EventMessage};
use hull_api::filters::Filters;
use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::error::{Error, Kind, Result};

/// Events that are remembered for `since`: Docker's number.
const REMEMBERED_MAX: usize = 256;
/// Events that a listener may lag behind before it loses some, and is told so.
const LAG_MAX: usize = 16 << 10;

/// The events service. A cheap clone.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

struct Inner {
    memory: Mutex<VecDeque<Arc<EventMessage>>>,
    live: broadcast::Sender<Arc<EventMessage>>,
}

/// A stream of events.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<EventMessage>> + Send>>;

impl Events {
    pub(crate) fn new() -> Events {
        let (live, _) = broadcast::channel(LAG_MAX);
        Events {
            inner: Arc::new(Inner {
                memory: Mutex::new(VecDeque::with_capacity(REMEMBERED_MAX)),
                live,
            }),
        }
    }

    fn memory(&self) -> MutexGuard<'_, VecDeque<Arc<EventMessage>>> {
        self.inner
            .memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.inner.live.receiver_count()
    }

    /// Tells everyone. `kind` is `container`, `image`, ...; `action` is Docker's word.
    pub fn publish(
        &self,
        kind: &str,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let now = Timestamp::now();
        let mut event = EventMessage {
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: EventActor {
                id: id.to_owned(),
                attributes,
            },
            scope: "local".to_owned(),
            time: now.as_second(),
            time_nano: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
            ..EventMessage::default()
        };
        if kind == "container" || kind == "image" {
            event.status = event.action.clone();
            event.id = event.actor.id.clone();
        }
        if kind == "container" {
            event.from = event
                .actor
                .attributes
                .get("image")
                .cloned()
                .unwrap_or_default();
        }
        let event = Arc::new(event);
        // Under the lock, so that a new listener sees each event once: in the memory, or live.
        let mut memory = self.memory();
        if memory.len() == REMEMBERED_MAX {
            memory.pop_front();
        }
        memory.push_back(event.clone());
        let _ = self.inner.live.send(event);
    }

    /// Remembered events from `since` on (none without it), then those to come, until `until`.
    ///
    /// The stream ends with an error for a listener that read too slowly to be told everything.
    pub fn subscribe(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        filters: Filters,
    ) -> Result<EventStream> {
        filters.validate(ACCEPTED).map_err(Error::invalid)?;
        let (past, live) = {
            let memory = self.memory();
            let past: Vec<Arc<EventMessage>> = match since {
                Some(since) => memory
                    .iter()
                    .filter(|event| i128::from(event.time_nano) >= since.as_nanosecond())
                    .cloned()
                    .collect(),
                None => Vec::new(),
            };
            (past, self.inner.live.subscribe())
        };
        let within = move |event: &EventMessage| {
            until.is_none_or(|until| i128::from(event.time_nano) <= until.as_nanosecond())
        };
        let filters = Arc::new(filters);
        let wanted = filters.clone();
        let past = stream::iter(past)
            .filter(move |event| std::future::ready(within(event) && matches(&wanted, event)))
            .map(|event| Ok((*event).clone()));
        let now = Timestamp::now();
        if until.is_some_and(|until| until <= now) {
            return Ok(Box::pin(past));
        }
        let live = stream::unfold(Some(live), |live| async move {
            let mut live = live?;
            match live.recv().await {
                Ok(event) => Some((Ok(event), Some(live))),
                Err(broadcast::error::RecvError::Lagged(count)) => Some((
                    Err(Error::new(
                        Kind::Unavailable,
                        format!("read too slowly: {count} events were lost"),
                    )),
                    None,
                )),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
        .filter_map(move |event| {
            let shown = match event {
                Ok(event) if matches(&filters, &event) => Some(Ok((*event).clone())),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            };
            std::future::ready(shown)
        });
        let left = until.map(|until| {
            let nanos = until.as_nanosecond().saturating_sub(now.as_nanosecond());
            std::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        });
        let end = async move {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        Ok(Box::pin(past.chain(live).take_until(Box::pin(end))))
    }
}

const ACCEPTED: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// Docker's `daemon/events/filter.go`.
fn matches(filters: &Filters, event: &EventMessage) -> bool {
    let attribute = |name: &str| event.actor.attributes.get(name).map_or("", String::as_str);
    let object = |key: &str| {
        !filters.contains(key)
            || (event.kind == key
                && filters.get(key).any(|wanted| {
                    event.actor.id.starts_with(wanted) || attribute("name") == wanted
                }))
    };
    // `exec_create: ls` is found by `exec_create`, `health_status: healthy` by `health_status`.
    let action = event.action.split(':').next().unwrap_or_default();
    filters.matches("event", |wanted| wanted == event.action || wanted == action)
        && filters.exact("type", &event.kind)
        && filters.exact("scope", &event.scope)
        && object("daemon")
        && container_matches(filters, event)
        && object("plugin")
        && object("volume")
        && object("network")
        && object("node")
        && object("service")
        && object("secret")
        && object("config")
        && image_matches(filters, event)
        && filters.matches_pairs("label", &event.actor.attributes)
}

/// A container is also meant by the `container` attribute of another object's event.
fn container_matches(filters: &Filters, event: &EventMessage) -> bool {
    filters.matches("container", |wanted| {
        if event.kind == "container" {
            event.actor.id.starts_with(wanted)
                || event
                    .actor
                    .attributes
                    .get("name")
                    .is_some_and(|name| name == wanted)
        } else {
            event
                .actor
                .attributes
                .get("container")
                .is_some_and(|id| id.starts_with(wanted))
        }
    })
}

fn image_matches(filters: &Filters, event: &EventMessage) -> bool {
    let name_attribute = if event.kind == "image" {
        "name"
    } else {
        "image"
    };
    let name = event
        .actor
        .attributes
        .get(name_attribute)
        .map_or("", String::as_str);
    let without_tag = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    };
    filters.matches("image", |wanted| {
        event.actor.id == wanted || name == wanted || without_tag == wanted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, image: &str) -> BTreeMap<String, String> {
        [
            ("name".to_owned(), name.to_owned()),
            ("image".to_owned(), image.to_owned()),
        ]
        .into()
    }

    fn filters(pairs: &[(&str, &str)]) -> Filters {
        let mut filters = Filters::default();
        for (key, value) in pairs {
            filters.add(key, value);
        }
        filters
    }

    #[tokio::test]
    async fn remembers_and_goes_on_without_a_gap() {
        let events = Events::new();
        events.publish("container", "create", "abc", named("web", "nginx:1"));
        let mut all = events
            .subscribe(Some(Timestamp::UNIX_EPOCH), None, Filters::default())
            .unwrap();
        events.publish("container", "start", "abc", named("web", "nginx:1"));
        assert_eq!(all.next().await.unwrap().unwrap().action, "create");
        assert_eq!(all.next().await.unwrap().unwrap().action, "start");
        let ended = events
            .subscribe(
                Some(Timestamp::UNIX_EPOCH),
                Some(Timestamp::now()),
                Filters::default(),
            )
            .unwrap();
        assert_eq!(ended.count().await, 2);
    }

    #[test]
    fn filters_are_dockers() {
        let event = |kind: &str, action: &str, id: &str, attributes| EventMessage {
            kind: kind.into(),
            action: action.into(),
            actor: EventActor {
                id: id.into(),
                attributes,
            },
            scope: "local".into(),
            ..EventMessage::default()
        };
        let exec = event(
            "container",
            "exec_create: ls",
            "abc",
            named("web", "nginx:1"),
        );
        assert!(matches(&filters(&[("event", "exec_create")]), &exec));
        assert!(matches(
            &filters(&[("container", "web"), ("image", "nginx")]),
            &exec
        ));
        assert!(!matches(&filters(&[("container", "db")]), &exec));
        assert!(matches(
            &filters(&[("type", "container"), ("type", "network")]),
            &exec
        ));
        let connect = event(
            "network",
            "connect",
            "n1",
            [("container".to_owned(), "abc".to_owned())].into(),
        );
        assert!(matches(&filters(&[("container", "abc")]), &connect));
        assert!(!matches(&filters(&[("volume", "n1")]), &connect));
    }
}
