//! Endpoints behind TLS, and the way to them: a server's certificate is believed if the system's authorities, or those that a
//! variable names, have signed it; proxies come from the environment.

use std::process::Command;

use divvy_testkit::tls::{AUTHORITY, STRANGER};

use crate::{
    bench::{Bench, Ended, ended},
    school::{self, CONCURRENCY, RECIPE, TRAIN},
};

/// `divvy collect` at this address, where these authorities (PEM) and no others are believed.
fn collect(bench: &Bench, url: &str, authorities: &str) -> Command {
    bench.recipe(&RECIPE.replace("URL", url));
    let mut command = bench.command(&["collect", "recipe.toml"]);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env_remove("SSL_CERT_DIR").env("SSL_CERT_FILE", bench.workspace.write("authorities.pem", authorities));
    command
}

fn run(command: &mut Command) -> Ended {
    ended(command.spawn().unwrap())
}

#[track_caller]
fn done(command: &mut Command) {
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn an_authority_of_ones_own_is_named_by_a_variable() {
    let bench = Bench::new(school::lesson());
    let front = bench.front();
    done(&mut collect(&bench, &front.url(), AUTHORITY));
    assert_eq!((bench.committed().len(), bench.teacher.asked().len()), (TRAIN, TRAIN));
    assert!((1..=CONCURRENCY).contains(&front.connections()), "connections are kept: {}", front.connections());
}

#[test]
fn a_certificate_of_an_unknown_authority_ends_the_run_at_once() {
    let bench = Bench::new(school::lesson());
    let front = bench.front();
    let ended = run(&mut collect(&bench, &front.url(), STRANGER));
    ended.complains(1, &["model `teacher` at https://localhost:", "certificate is not trusted", "SSL_CERT_FILE"]);
    assert_eq!(bench.teacher.asked().len(), 0);
    // Those that were on their way together, each once.
    assert!((1..=CONCURRENCY).contains(&front.connections()), "{} connections", front.connections());
}

#[test]
fn a_certificate_for_another_name_asks_for_the_url() {
    let bench = Bench::new(school::lesson());
    let front = bench.front();
    let ended = run(&mut collect(&bench, &front.url().replace("localhost", "127.0.0.1"), AUTHORITY));
    ended.complains(1, &["certificate is not trusted", "is the URL right?"]);
    assert_eq!(bench.teacher.asked().len(), 0);
}

#[test]
fn a_variable_that_names_no_certificates_is_told() {
    let bench = Bench::new(school::lesson());
    let ended = run(&mut collect(&bench, "https://localhost:9/v1", "no certificate\n"));
    ended.complains(1, &["cannot set up TLS for https://localhost:9/v1", "SSL_CERT_FILE"]);
}

#[test]
fn a_proxy_of_the_environment_tunnels_to_https() {
    let bench = Bench::new(school::lesson());
    let (front, proxy) = (bench.front(), bench.proxy());
    let mut command = collect(&bench, &front.url(), AUTHORITY);
    done(command.env("HTTPS_PROXY", proxy.url()));
    let (tunnels, there) = (proxy.tunnels(), front.url().replace("https://", "").replace("/v1", ""));
    assert!(!tunnels.is_empty() && tunnels.iter().all(|target| *target == there), "{tunnels:?}");
    assert_eq!((tunnels.len(), bench.committed().len()), (front.connections(), TRAIN), "all went through it");
}

#[test]
fn no_proxy_for_a_host_that_is_excepted() {
    let bench = Bench::new(school::lesson());
    let (front, proxy) = (bench.front(), bench.proxy());
    let mut command = collect(&bench, &front.url(), AUTHORITY);
    done(command.env("HTTPS_PROXY", proxy.url()).env("NO_PROXY", "localhost"));
    assert_eq!((proxy.tunnels().len(), bench.committed().len()), (0, TRAIN));
}
