//! `GET /v1/models` and `GET /v1/models/NAME`. Reference: <https://platform.openai.com/docs/api-reference/models>.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, Response},
};
use serde_json::{Value, json};

use super::{course::no_model, reply::json_response};
use crate::{desk::Desk, menu::Served, server::caller};

pub(crate) async fn list(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Response<Body> {
    let data = || desk.menu.served.iter().map(|served| entry(&desk, served)).collect::<Vec<_>>();
    match caller(&desk, &headers) {
        Ok(_) => json_response(&json!({"object": "list", "data": data()})),
        Err(error) => error.response(),
    }
}

pub(crate) async fn one(State(desk): State<Arc<Desk>>, headers: HeaderMap, Path(name): Path<String>) -> Response<Body> {
    let found = caller(&desk, &headers).and_then(|_| desk.menu.find(&name).ok_or_else(|| no_model(&desk, &name)));
    found.map_or_else(|error| error.response(), |served| json_response(&entry(&desk, served)))
}

fn entry(desk: &Desk, served: &Served) -> Value {
    let own = match served {
        Served::Arm(served) => json!({
            "kind": "arm", "strategy": served.arm.strategy, "decomposer": served.arm.decomposer,
            "solver": served.arm.solver, "measured": served.measured,
        }),
        Served::Model(voice) => json!({"kind": "model", "local": voice.local}),
    };
    json!({"id": served.name(), "object": "model", "created": desk.menu.created, "owned_by": "divvy", "divvy": own})
}
