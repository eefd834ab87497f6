//! A cluster's certificates in a directory: `ca.crt`, `ca.key`, and for each member its `.crt` and `.key` (`broker-0`, `operator`).

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use crate::held::Held;
use crate::identity::Role;
use crate::issue::Pair;
use crate::life::seconds;
use crate::pems::{self, Files};
use crate::renewal::{Due, due};
use crate::{Identity, TlsError};

/// The authority's certificate, which everyone trusts.
pub const AUTHORITY: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const LISTENER: &str = "listener-";

/// The name of a member's certificate, to which its key's is alike.
#[must_use]
pub fn certificate_of(role: Role) -> String {
    format!("{}.crt", stem(role))
}

/// The name of a member's key.
#[must_use]
pub fn key_of(role: Role) -> String {
    format!("{}.key", stem(role))
}

/// The name of the certificate of a listener for clients.
#[must_use]
pub fn certificate_of_listener(name: &str) -> String {
    format!("{LISTENER}{name}.crt")
}

/// The name of its key.
#[must_use]
pub fn key_of_listener(name: &str) -> String {
    format!("{LISTENER}{name}.key")
}

/// The listener whose certificate a file of this name is.
#[must_use]
pub fn listener_of(file: &str) -> Option<&str> {
    file.strip_prefix(LISTENER)?.strip_suffix(".crt")
}

/// Whose certificate a file of this name is.
#[must_use]
pub fn role_of(file: &str) -> Option<Role> {
    let role = match file.strip_suffix(".crt")? {
        "operator" => Role::Operator,
        broker => Role::Broker(broker.strip_prefix("broker-")?.parse().ok()?),
    };
    (certificate_of(role) == file).then_some(role)
}

fn stem(role: Role) -> String {
    match role {
        Role::Broker(id) => format!("broker-{id}"),
        Role::Operator => "operator".to_owned(),
    }
}

/// What one member needs of a directory.
#[must_use]
pub fn files(dir: &Path, role: Role) -> Files {
    Files {
        authorities: dir.join(AUTHORITY),
        certificate: dir.join(certificate_of(role)),
        key: dir.join(key_of(role)),
    }
}

/// Makes and renews what is due of these members' certificates, and returns what that was. Call it again whenever you like; one
/// caller at a time.
pub fn ensure(
    dir: &Path,
    cluster: &str,
    members: &[Role],
    now: SystemTime,
) -> Result<Vec<Due>, TlsError> {
    for role in members {
        Identity::new(cluster, *role)?;
    }
    let mut held = read(dir, members)?;
    let due = due(members, &held.seen(cluster)?, seconds(now));
    if due.is_empty() {
        return Ok(due);
    }
    held.issue(cluster, &due, now)?;
    fs::create_dir_all(dir).map_err(|source| TlsError::File {
        path: dir.to_owned(),
        source,
    })?;
    for due in &due {
        let (certificate, key, pair) = match due {
            Due::Authority | Due::AuthorityRenewal => (
                AUTHORITY.to_owned(),
                AUTHORITY_KEY.to_owned(),
                held.authority.as_ref(),
            ),
            Due::Leaf(role) => (certificate_of(*role), key_of(*role), held.leaves.get(role)),
            Due::Listener { name, .. } => (
                certificate_of_listener(name),
                key_of_listener(name),
                held.listeners.get(name),
            ),
        };
        if let Some(pair) = pair {
            write(&dir.join(key), &pair.key, 0o600)?;
            write(&dir.join(certificate), &pair.certificate, 0o644)?;
        }
    }
    Ok(due)
}

fn read(dir: &Path, members: &[Role]) -> Result<Held, TlsError> {
    let certificate = text_of(&dir.join(AUTHORITY))?;
    let key = text_of(&dir.join(AUTHORITY_KEY))?;
    let authority = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Pair { certificate, key }),
        // A key that nothing was issued under yet.
        (None, _) => None,
        (Some(_), None) => {
            return Err(TlsError::Pem {
                what: AUTHORITY_KEY,
                why: format!(
                    "it is not beside {}, and without it nothing can be issued",
                    dir.join(AUTHORITY).display()
                ),
            });
        }
    };
    let mut held = Held {
        authority,
        ..Held::default()
    };
    for role in members {
        let certificate = text_of(&dir.join(certificate_of(*role)))?;
        let key = text_of(&dir.join(key_of(*role)))?;
        if let (Some(certificate), Some(key)) = (certificate, key) {
            held.leaves.insert(*role, Pair { certificate, key });
        }
    }
    Ok(held)
}

/// A file's text; `None` when there is no such file.
fn text_of(path: &Path) -> Result<Option<String>, TlsError> {
    match pems::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(TlsError::File { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file beside, and moves it into place.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let beside = path.with_extension("new");
    let written = || {
        // Left behind by somebody who was interrupted, perhaps with another mode.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    written().map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}
