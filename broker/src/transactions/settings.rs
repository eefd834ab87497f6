//! From the broker's configuration to the coordinators'.

use std::time::Duration;

use weir_groups::transactions::Config;

use crate::config::TransactionConfig;

/// What the configuration file says about transactions; the rest is the coordinators' default.
#[must_use]
pub fn coordinator_config(transactions: &TransactionConfig) -> Config {
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Config {
        timeout_ms_max: i32::try_from(ms(transactions.timeout_max)).unwrap_or(i32::MAX),
        id_expiration_ms: ms(transactions.id_expiration),
        ..Config::default()
    }
}
