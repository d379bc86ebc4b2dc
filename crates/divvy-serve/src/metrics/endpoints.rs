//! How the endpoints of all models do: circuit breakers, requests in flight and how many there may be. They keep that
//! themselves; here it is only told.

use std::{fmt, sync::Arc};

use divvy_core::model::host;
use divvy_llm::{BreakerState, EndpointState, Live};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::menu::Menu;

/// Name, help, and where its value comes from.
type Gauge = (&'static str, &'static str, fn(&EndpointState) -> usize);

/// A model in this process has this in place of a host.
const IN_PROCESS: &str = "local";
const STANDINGS: [(BreakerState, &str); 3] =
    [(BreakerState::Closed, "closed"), (BreakerState::HalfOpen, "half-open"), (BreakerState::Open, "open")];

pub(super) struct Endpoints {
    /// Name, its endpoints' labels, and the model.
    models: Vec<(String, Vec<String>, Arc<Live>)>,
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.models.iter().map(|(name, labels, _)| (name, labels))).finish()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEndpoint {
    model: String,
    endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    model: String,
    endpoint: String,
    state: &'static str,
}

impl Endpoints {
    pub(super) fn of(menu: &Menu) -> Self {
        let model = |(name, voice): (&str, &crate::menu::Voice)| {
            (name.to_owned(), labels(&voice.live.endpoints()), Arc::clone(&voice.live))
        };
        Self { models: menu.voices().into_iter().map(model).collect() }
    }

    /// Every endpoint with its labels.
    fn states(&self) -> impl Iterator<Item = (ByEndpoint, EndpointState)> {
        self.models.iter().flat_map(|(model, labels, live)| {
            let labels = labels.iter().map(|endpoint| ByEndpoint { model: model.clone(), endpoint: endpoint.clone() });
            labels.zip(live.endpoints())
        })
    }
}

impl Collector for Endpoints {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let states: Vec<_> = self.states().collect();
        let help = "State of the circuit breaker: 1 for the one that it is in";
        let mut breaker = encoder.encode_descriptor("breaker", help, None, MetricType::Gauge)?;
        for (labels, state) in &states {
            for (standing, name) in STANDINGS {
                let (model, endpoint) = (labels.model.clone(), labels.endpoint.clone());
                let value = ConstGauge::new(i64::from(state.standing == standing));
                value.encode(breaker.encode_family(&ByState { model, endpoint, state: name })?)?;
            }
        }
        let gauges: [Gauge; 2] = [
            ("endpoint_limit", "Requests that may be in flight at the endpoint now", |state| state.most),
            ("endpoint_running", "Requests sent to the endpoint, those in line for it included", |state| state.running),
        ];
        for (name, help, of) in gauges {
            let mut gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, state) in &states {
                let value = ConstGauge::new(i64::try_from(of(state)).unwrap_or(i64::MAX));
                value.encode(gauge.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

/// Host and port of each; where one host serves a model twice, a number behind it.
fn labels(endpoints: &[EndpointState]) -> Vec<String> {
    let hosts: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.name.as_deref().map_or(IN_PROCESS, host)).collect();
    let label = |(at, host): (usize, &&str)| {
        if hosts[..at].contains(host) { format!("{host} {}", at + 1) } else { (*host).to_owned() }
    };
    hosts.iter().enumerate().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_hosts_and_differ() {
        let endpoint = |name: Option<&str>| EndpointState {
            name: name.map(str::to_owned),
            standing: BreakerState::Closed,
            running: 0,
            most: 1,
        };
        let urls = ["https://me:secret@a.example/v1?key=1", "http://b:8080", "https://a.example/v2"];
        let endpoints = urls.map(|url| endpoint(Some(url)));
        assert_eq!(labels(&endpoints), ["a.example", "b:8080", "a.example 3"]);
        assert_eq!(labels(&[endpoint(None)]), ["local"]);
    }
}
