//! Which quota counts for a client: the one whose entity says most about it, in Kafka's order.
//!
//! Pure. A quota that names a user is shared by all of that user's clients, one that names a client id by all clients of that
//! name, and one that names both is for that client of that user; a quota for all others is one for each of them.

use weir_quorum::quotas::{ClientQuotas, QuotaEntity, QuotaName};

/// Who a client is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'c> {
    /// Its user; everyone is Kafka's `ANONYMOUS` where nobody authenticates.
    pub(crate) user: &'c str,
    /// The name that it gives itself.
    pub(crate) client_id: &'c str,
}

/// Who shares a bucket: a user, a client id, or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sharer {
    pub(super) user: Option<String>,
    pub(super) client_id: Option<String>,
}

/// The limit of a client and who shares it; `None` without one.
pub(super) fn limit(quotas: &ClientQuotas, client: Client<'_>, key: &str) -> Option<(Sharer, f64)> {
    let user = || Some(QuotaName::Named(client.user.to_owned()));
    let client_id = || Some(QuotaName::Named(client.client_id.to_owned()));
    let default = || Some(QuotaName::Default);
    // The documented order of precedence (KIP-55).
    let candidates = [
        (user(), client_id()),
        (user(), default()),
        (user(), None),
        (default(), client_id()),
        (default(), default()),
        (default(), None),
        (None, client_id()),
        (None, default()),
    ];
    candidates.into_iter().find_map(|(user, client_id)| {
        let sharer = Sharer {
            user: user.is_some().then(|| client.user.to_owned()),
            client_id: client_id.is_some().then(|| client.client_id.to_owned()),
        };
        let entity = QuotaEntity {
            user,
            client_id,
            ip: None,
        };
        let rate = quotas.get(&entity)?.get(key)?;
        Some((sharer, rate.0))
    })
}

/// How many connections a second an address may open; `None`: as many as it likes.
pub(super) fn connections(quotas: &ClientQuotas, address: std::net::IpAddr) -> Option<f64> {
    let of = |name| {
        let entity = QuotaEntity {
            ip: Some(name),
            ..QuotaEntity::default()
        };
        quotas
            .get(&entity)?
            .get(weir_quorum::quotas::CONNECTION_CREATION_RATE)
    };
    of(QuotaName::Named(address.to_string()))
        .or_else(|| of(QuotaName::Default))
        .map(|rate| rate.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use weir_quorum::quotas::Rate;

    use super::*;

    type Pairs<'a> = &'a [(&'a str, Option<&'a str>)];

    fn quotas(entities: &[(Pairs<'_>, f64)]) -> ClientQuotas {
        let mut quotas = ClientQuotas::new();
        for (pairs, rate) in entities {
            let entity = QuotaEntity::of(pairs.iter().copied()).unwrap();
            quotas
                .entry(entity)
                .or_default()
                .insert("producer_byte_rate".to_owned(), Rate(*rate));
        }
        quotas
    }

    #[test]
    fn the_entity_that_says_most_counts() {
        let all: [(Pairs<'_>, f64); 8] = [
            (&[("user", Some("u")), ("client-id", Some("c"))], 1.0),
            (&[("user", Some("u")), ("client-id", None)], 2.0),
            (&[("user", Some("u"))], 3.0),
            (&[("user", None), ("client-id", Some("c"))], 4.0),
            (&[("user", None), ("client-id", None)], 5.0),
            (&[("user", None)], 6.0),
            (&[("client-id", Some("c"))], 7.0),
            (&[("client-id", None)], 8.0),
        ];
        let client = Client {
            user: "u",
            client_id: "c",
        };
        for first in 0..all.len() {
            let quotas = quotas(&all[first..]);
            let (_, rate) = limit(&quotas, client, "producer_byte_rate").unwrap();
            assert!((rate - all[first].1).abs() < f64::EPSILON, "{first}");
            assert!(limit(&quotas, client, "consumer_byte_rate").is_none());
        }
        assert!(limit(&quotas(&[]), client, "producer_byte_rate").is_none());
    }

    #[test]
    fn a_users_clients_share_what_is_the_users() {
        let quotas = quotas(&[(&[("user", None)], 1.0)]);
        let client = |client_id| Client {
            user: "u",
            client_id,
        };
        let (a, _) = limit(&quotas, client("a"), "producer_byte_rate").unwrap();
        let (b, _) = limit(&quotas, client("b"), "producer_byte_rate").unwrap();
        assert_eq!(a, b);
    }
}
