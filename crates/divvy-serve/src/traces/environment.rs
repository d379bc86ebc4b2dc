//! Which traces an operator asks for: the variables of OpenTelemetry that decide whether there are any and where they go.
//! The SDK itself reads the others (sampler, resource, batches, headers).

use std::time::Duration;

const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const CONTENT: &str = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";

/// OpenTelemetry's own.
const USUAL_ENDPOINT: &str = "http://localhost:4318";
const USUAL_TIMEOUT: Duration = Duration::from_secs(10);
const PROTOCOL: &str = "http/protobuf";

/// A variable that asks for what is not there.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    #[error("{EXPORTER}: traces cannot be sent by `{0}`; there is `otlp`, and `none` for no traces")]
    Exporter(String),
    #[error(
        "{variable}: `{value}` is not spoken here; write {PROTOCOL}, and the collector's address for it (port 4318, \
         usually), or {EXPORTER}=none for no traces"
    )]
    Protocol { variable: &'static str, value: String },
    #[error("{variable}: `{value}` is no number of milliseconds")]
    Timeout { variable: &'static str, value: String },
    #[error("traces cannot be sent: {0}; {EXPORTER}=none is for no traces")]
    Collector(String),
}

/// What is asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Wanted {
    /// As written, for its scheme.
    pub(super) address: String,
    /// The address stands above the environment.
    pub(super) fixed: bool,
    pub(super) timeout: Duration,
    pub(super) content: bool,
}

impl Wanted {
    pub(super) fn at(address: &str) -> Self {
        Self { address: address.to_owned(), fixed: true, timeout: USUAL_TIMEOUT, content: false }
    }

    /// `None`: no traces. A variable that is empty is as good as absent.
    pub(super) fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, TracesError> {
        let get = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, get(name)?)));
        let says = |name: &str, word: &str| get(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
        let address = first(ENDPOINTS).map(|(_, address)| address);
        let asked = match get(EXPORTER).as_deref() {
            None => address.is_some(),
            Some("otlp") => true,
            Some("none") => false,
            Some(other) => return Err(TracesError::Exporter(other.to_owned())),
        };
        if !asked || says(DISABLED, "true") {
            return Ok(None);
        }
        if let Some((variable, value)) = first(PROTOCOLS).filter(|(_, value)| value != PROTOCOL) {
            return Err(TracesError::Protocol { variable, value });
        }
        let timeout = first(TIMEOUTS).map_or(Ok(USUAL_TIMEOUT), |(variable, value)| {
            value.parse().map(Duration::from_millis).map_err(|_| TracesError::Timeout { variable, value })
        })?;
        // The variable's newer values are the names of places.
        let content = ["true", "span_only", "span_and_event"].iter().any(|word| says(CONTENT, word));
        let address = address.unwrap_or_else(|| USUAL_ENDPOINT.to_owned());
        Ok(Some(Self { address, fixed: false, timeout, content }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Wanted>, TracesError> {
        let find = |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        Wanted::read(&find)
    }

    #[test]
    fn nothing_is_traced_unless_it_is_asked_for() {
        let at = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        for variables in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "x")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[at, ("OTEL_SDK_DISABLED", "TRUE")],
            &[at, ("OTEL_TRACES_EXPORTER", "none")],
            &[at, ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
        ] {
            assert_eq!(read(variables).unwrap(), None, "{variables:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let wanted = read(&[("OTEL_TRACES_EXPORTER", "otlp")]).unwrap().unwrap();
        assert_eq!((&*wanted.address, wanted.content), ("http://localhost:4318", false));
        let wanted = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://b/v1/traces"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY"),
        ]);
        let expect = Wanted {
            address: "https://b/v1/traces".into(),
            fixed: false,
            timeout: Duration::from_millis(250),
            content: true,
        };
        assert_eq!(wanted.unwrap(), Some(expect));
    }

    #[test]
    fn what_cannot_be_had_is_told_with_its_variable() {
        let at = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        for (variables, said) in [
            (&[("OTEL_TRACES_EXPORTER", "jaeger")][..], "OTEL_TRACES_EXPORTER: traces cannot be sent by `jaeger`"),
            (&[at, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "OTEL_EXPORTER_OTLP_PROTOCOL: `grpc`"),
            (&[at, ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s")], "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: `10s`"),
        ] {
            let error = read(variables).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
