//! `divvy serve` with OpenTelemetry's environment variables: what a collector hears of the running program.

use crate::{
    bench::ended,
    serving::{Serving, bench},
};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

#[test]
fn spans_of_a_local_student_and_a_remote_solver_are_sent_before_the_end() {
    let bench = bench();
    bench.done(&["train", "recipe.toml"]);
    let collector = bench.collector();
    let variables =
        [(ENDPOINT, &*collector.url()), ("OTEL_SERVICE_NAME", "team-a"), ("OTEL_BSP_SCHEDULE_DELAY", "60000")];
    let serving = Serving::begin_with(&bench, &["recipe.toml"], &variables);
    serving.ask("two-stage/sd/big");
    serving.ask("two-stage/sd/big");
    let metrics = serving.get("/metrics").1;
    assert!(metrics.contains("divvy_prompt_cache_total{model=\"student:sd\",result=\"hit\"} 1"), "{metrics}");
    assert!(metrics.contains("divvy_endpoint_limit{model=\"student:sd\",endpoint=\"local\"} 4"), "{metrics}");
    assert_eq!(collector.spans(), [], "they go in parcels");
    serving.stopped();
    let spans = collector.spans();
    let local: Vec<_> = spans.iter().filter(|span| span.name == "chat sd").collect();
    assert_eq!(local.len(), 2, "{spans:#?}");
    for span in &spans {
        assert_eq!((&span.resource["service.name"], span.failed), (&"team-a".into(), false), "{span:#?}");
    }
    assert_eq!((local[0].kind, &local[0].attributes["gen_ai.provider.name"]), ("SPAN_KIND_INTERNAL", &"divvy".into()));
    assert!(!local[0].attributes.contains_key("server.address"));
    let remote: Vec<_> = spans.iter().filter(|span| span.name == "chat teacher").collect();
    assert!(remote.iter().all(|span| span.kind == "SPAN_KIND_CLIENT" && !span.parent.is_empty()), "{spans:#?}");
}

#[test]
fn a_collector_that_is_not_there_is_said_once() {
    let bench = bench();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    let variables = [(ENDPOINT, &*url), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")];
    let serving = Serving::begin_with(&bench, &["recipe.toml"], &variables);
    (0..20).for_each(|_| drop(serving.ask("cot/big")));
    let said = serving.stopped();
    assert_eq!(said.matches("the collector takes no spans").count(), 1, "{said}");
    assert!(said.contains(&*closed.to_string()), "{said}");
    assert!(said.contains("spans did not reach the collector") && said.contains("40"), "{said}");
}

#[test]
fn without_variables_nothing_is_told_upstream() {
    let bench = bench();
    let serving = Serving::begin_with(&bench, &["recipe.toml"], &[]);
    serving.ask("cot/big");
    assert_eq!(bench.teacher.asked()[0].traceparent, None);
    let said = serving.stopped();
    assert!(!said.contains("spans"), "{said}");
}

#[test]
fn what_cannot_be_had_is_told_with_the_way_out() {
    let bench = bench();
    let with = |variables: &[(&str, &str)]| {
        let mut command = bench.command(&["serve", "recipe.toml", "--listen", "127.0.0.1:0"]);
        ended(command.envs(variables.iter().copied()).spawn().unwrap())
    };
    let grpc = [(ENDPOINT, "http://127.0.0.1:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    with(&grpc).complains(2, &["OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "4318"]);
    with(&[(ENDPOINT, "no address")]).complains(2, &["no address", "OTEL_TRACES_EXPORTER=none"]);
    with(&[("OTEL_TRACES_EXPORTER", "zipkin")]).complains(2, &["OTEL_TRACES_EXPORTER", "zipkin", "otlp"]);
}
