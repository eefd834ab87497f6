//! An API server that is a map: what was written is there, and a write that names another version than the one that is there is refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// How a request fares.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Road {
    /// How long the request is under way, and how long the answer.
    Takes(Duration, Duration),
    /// Nobody answers.
    Refused,
}

/// How each request fares, one after the other.
pub(crate) type Roads = Arc<dyn Fn() -> Road + Send + Sync>;

/// The server; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// By their paths.
    objects: BTreeMap<String, Value>,
    /// Kinds, or names of objects, that are answered with an error, and which.
    refused: BTreeMap<String, u16>,
    version: u64,
    /// Requests that came.
    requests: usize,
    /// Those of them that take fields from others, but for status.
    forced: usize,
}

impl Api {
    /// Puts an object at its path, such as `/api/v1/namespaces/market/secrets/shop`.
    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut state = self.state.lock().unwrap();
        state.write(path, object);
    }

    /// Answers everything about a kind (`clusters`), or about objects of a name, with an error.
    pub(crate) fn refuse(&self, kind: &str, code: u16) {
        let mut state = self.state.lock().unwrap();
        state.refused.insert(kind.to_owned(), code);
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }

    /// How many of them take fields over that others have written, but for status.
    pub(crate) fn forced(&self) -> usize {
        self.state.lock().unwrap().forced
    }

    /// What is at a path.
    pub(crate) fn at(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    /// A client that is answered at once.
    pub(crate) fn client(&self) -> Client {
        self.client_by(Arc::new(|| Road::Takes(Duration::ZERO, Duration::ZERO)))
    }

    /// A client whose requests fare as they may. What came is carried out also when nobody waits for the answer any more.
    pub(crate) fn client_by(&self, roads: Roads) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (api, road) = (api.clone(), roads());
            let answer = tokio::spawn(async move {
                let Road::Takes(there, back) = road else {
                    return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
                };
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                tokio::time::sleep(there).await;
                let query = head.uri.query().unwrap_or_default();
                let (code, answer) = api.answer(&head.method, head.uri.path(), query, &body);
                tokio::time::sleep(back).await;
                let answer = Full::new(Bytes::from(answer.to_string()));
                Ok(Response::builder().status(code).body(answer).unwrap())
            });
            async move { answer.await.unwrap() }
        });
        Client::new(service, "market")
    }

    fn answer(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
        let mut state = self.state.lock().unwrap();
        state.requests += 1;
        let is_of = |kind: &String| path.split('/').any(|part| part == kind);
        let refused = state.refused.iter().find(|(kind, _)| is_of(kind));
        if let Some((_, code)) = refused {
            return failure(*code);
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        match *method {
            Method::GET if is_list(path) => (200, state.list(path, query)),
            Method::GET => match state.objects.get(path) {
                Some(object) => (200, object.clone()),
                None => failure(404),
            },
            Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap();
                let path = format!("{path}/{name}");
                if state.objects.contains_key(&path) {
                    return failure(409);
                }
                (201, state.write(&path, body))
            }
            Method::PUT => {
                let Some(before) = state.objects.get(path) else {
                    return failure(404);
                };
                let version = &body["metadata"]["resourceVersion"];
                if !version.is_null() && *version != before["metadata"]["resourceVersion"] {
                    return failure(409);
                }
                (200, state.write(path, body))
            }
            // An apply or a merge, as far as these tests need them: nothing is known of lists, and of who owns a field.
            Method::PATCH => {
                let of = path.strip_suffix("/status");
                if of.is_none() && query.contains("force=true") {
                    state.forced += 1;
                }
                let path = of.unwrap_or(path);
                let mut object = state.objects.get(path).cloned().unwrap_or_default();
                merge(&mut object, body);
                (200, state.write(path, object))
            }
            _ => failure(405),
        }
    }
}

impl State {
    fn write(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    /// What is below a path and has the labels that are asked for.
    fn list(&self, path: &str, query: &str) -> Value {
        let query = query.replace("%2F", "/").replace("%3D", "=");
        let query = query.replace("%2C", ",");
        let labels = query
            .split('&')
            .find_map(|part| part.strip_prefix("labelSelector="));
        let labels = labels.into_iter().flat_map(|labels| labels.split(','));
        let labels: Vec<(&str, &str)> = labels.filter_map(|one| one.split_once('=')).collect();
        let below = format!("{path}/");
        let items = self.objects.iter().filter(|(path, object)| {
            let has = |(name, value): &(&str, &str)| {
                object["metadata"]["labels"][*name].as_str() == Some(*value)
            };
            path.starts_with(&below) && labels.iter().all(has)
        });
        let items: Vec<&Value> = items.map(|(_, object)| object).collect();
        json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Whether a path is of all objects of a kind: in one namespace, or everywhere.
fn is_list(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let versioned = if parts.first() == Some(&"api") { 2 } else { 3 };
    match &parts[versioned..] {
        ["namespaces", _, rest @ ..] => rest.len() == 1,
        rest => rest.len() == 1,
    }
}

fn failure(code: u16) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        503 => "ServiceUnavailable",
        _ => "Unknown",
    };
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": format!("answered with {code}"),
    });
    (code, status)
}
