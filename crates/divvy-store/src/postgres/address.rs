//! `postgres://USER@HOST:PORT/DATABASE`: what may stand in it, and how it is shown. The password is read from it, from
//! PGPASSWORD or from ~/.pgpass, and goes to the server alone.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use crate::error::StoreError;

/// Its tables have a schema of their own: a database may hold other things.
pub(super) const SCHEMA: &str = "divvy";
/// Further settings that a URL may have. Any other is refused: the driver would log it, whatever it holds.
const KNOWN: [&str; 11] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) options: PgConnectOptions,
    /// For people: without the password.
    pub(super) name: String,
}

pub(super) fn parse(url: &str) -> Result<Address, StoreError> {
    let bad = |detail: String| StoreError::Address { detail };
    if let Some(key) = settings(url).find(|key| !KNOWN.contains(key)) {
        return Err(bad(format!("it has the setting `{key}`; known are {}", KNOWN.join(", "))));
    }
    // What is wrong is said without the URL, which may hold a password.
    let options = PgConnectOptions::from_str(url).map_err(|error| bad(error.to_string()))?;
    if options.get_database().is_none_or(str::is_empty) {
        return Err(bad("it names no database".to_owned()));
    }
    let name = name(&options);
    let options = options.application_name("divvy").options([("search_path", SCHEMA)]);
    Ok(Address { options, name })
}

fn settings(url: &str) -> impl Iterator<Item = &str> {
    let query = url.split_once('?').map_or("", |(_, query)| query.split('#').next().unwrap_or_default());
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split('=').next().unwrap_or(pair))
}

fn name(options: &PgConnectOptions) -> String {
    let place = options.get_socket().map_or_else(
        || format!("{}:{}", options.get_host(), options.get_port()),
        |socket| format!("[{}]:{}", socket.display(), options.get_port()),
    );
    format!("postgres://{}@{place}/{}", options.get_username(), options.get_database().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_nowhere_to_be_seen() {
        for url in ["postgres://ann:s3cret@db:5433/runs", "postgresql://ann@db:5433/runs?password=s3cret"] {
            let address = parse(url).unwrap();
            assert_eq!(address.name, "postgres://ann@db:5433/runs");
            assert!(!format!("{:?}", address.name).contains("s3cret"));
        }
        let wrong = [
            "postgres://ann:s3cret@db:port/runs",
            "postgres://ann:s3cret@db/runs?pasword=s3cret",
            "postgres://ann:s3cret@db",
        ];
        for url in wrong {
            let error = parse(url).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_socket_is_a_place_too() {
        let address = parse("postgres://ann@localhost/runs?host=/run/postgresql").unwrap();
        assert_eq!(address.name, "postgres://ann@[/run/postgresql]:5432/runs");
    }
}
