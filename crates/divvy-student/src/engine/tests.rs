//! Scheduling must never show in a reply: same job, same tokens, alone, in company, after cache reuse.

use std::collections::HashMap;

use super::*;
use crate::adapter::{LoraSettings, Scaling};
use crate::testing::{NAMES, tiny_model};
use divvy_core::chat::ReplyFormat;

fn model() -> Arc<Model> {
    Arc::new(tiny_model("tiny-qwen2"))
}

fn sampling(seed: u64, max_tokens: u32) -> Sampling {
    Sampling { temperature: 1.0, top_p: 0.95, repetition_penalty: 1.1, seed, ..Sampling::greedy(max_tokens) }
}

fn job(id: u64, prompt: Vec<u32>, sampling: Sampling) -> Job {
    Job { id, prompt, sampling, adapter: None, log_probabilities: false }
}

fn prompt(seed: u32, len: u32) -> Vec<u32> {
    (0..len).map(|i| 3 + (seed * 31 + i * i * 7 + i) % 98).collect()
}

/// id → (deltas joined, text, finish, usage)
type Replies = HashMap<u64, (String, String, Finish, Usage)>;

fn drain(engine: &mut Engine, replies: &mut Replies) {
    let mut told: HashMap<u64, String> = HashMap::new();
    while !engine.is_idle() {
        for event in engine.step() {
            match event.kind {
                EventKind::Text(text) => told.entry(event.id).or_default().push_str(&text),
                EventKind::Done { finish, usage, text, .. } => {
                    let told = told.remove(&event.id).unwrap_or_default();
                    assert!(replies.insert(event.id, (told, text, finish, usage)).is_none());
                }
                EventKind::Broken => panic!("job {} is broken", event.id),
            }
        }
    }
}

fn run(jobs: Vec<Job>, config: EngineConfig) -> Replies {
    run_on(model(), jobs, config)
}

fn run_on(model: Arc<Model>, jobs: Vec<Job>, config: EngineConfig) -> Replies {
    let mut engine = Engine::new(model, config);
    jobs.into_iter().for_each(|job| engine.submit(job).unwrap());
    let mut replies = HashMap::new();
    drain(&mut engine, &mut replies);
    replies
}

fn jobs() -> Vec<Job> {
    (0..9).map(|i| job(i, prompt(i as u32 / 3, 5 + 9 * (i as u32 % 4)), sampling(i, 12))).collect()
}

#[test]
fn replies_do_not_depend_on_the_batch() {
    let formats = [CacheFormat::F32, CacheFormat::Bf16, CacheFormat::Int8];
    let sizes = [(1, 256), (3, 4), (32, 256), (4, 1)];
    let mut alone = Replies::new();
    for cache in formats {
        let config = EngineConfig { cache, ..EngineConfig::default() };
        alone = jobs().into_iter().flat_map(|job| run(vec![job], config.clone())).collect();
        for (max_sequences, prefill_chunk) in sizes {
            let config =
                EngineConfig { max_sequences, prefill_chunk, max_cached_tokens: 1000, cache, max_held_tokens: None };
            let together = run(jobs(), config.clone());
            for (id, reply) in &alone {
                let other = &together[id];
                assert_eq!((&reply.1, &reply.2), (&other.1, &other.2), "job {id}, {config:?}");
                assert_eq!(other.0, other.1, "deltas add up to the text");
                assert_eq!(reply.3.tokens_out, other.3.tokens_out);
            }
        }
    }
    assert!(alone.values().map(|reply| &reply.1).collect::<std::collections::BTreeSet<_>>().len() > 4);
}

#[test]
fn nor_those_of_any_family() {
    for name in NAMES {
        let model = Arc::new(tiny_model(name));
        let config = || EngineConfig { prefill_chunk: 4, ..EngineConfig::default() };
        let together = run_on(Arc::clone(&model), jobs(), config());
        for job in jobs() {
            let alone = run_on(Arc::clone(&model), vec![job.clone()], EngineConfig::default());
            let (one, other) = (&alone[&job.id], &together[&job.id]);
            assert_eq!((&one.1, &one.2), (&other.1, &other.2), "{name}, job {}", job.id);
        }
    }
}

#[test]
fn a_shared_prefix_is_computed_once_and_changes_nothing() {
    let jobs = |shared: u32| {
        (0..5).map(move |i| {
            let prompt = [prompt(1, shared), prompt(10 + i, 7)].concat();
            job(i.into(), prompt, sampling(i.into(), 10))
        })
    };
    let reused = run(jobs(40).collect(), EngineConfig::default());
    for job in jobs(40) {
        let fresh = run(vec![job.clone()], EngineConfig::default());
        assert_eq!(fresh[&job.id].1, reused[&job.id].1);
        assert_eq!(fresh[&job.id].3.tokens_cached, Some(0));
    }
    let mut cached: Vec<u64> = reused.values().map(|reply| reply.3.tokens_cached.unwrap()).collect();
    cached.sort_unstable();
    assert_eq!(cached[0], 0, "somebody computes it");
    assert!(cached[1..].iter().all(|&n| n >= 40), "{cached:?}");
}

#[test]
fn finished_sequences_lend_their_cache_to_the_same_adapter_only() {
    let model = model();
    let settings = LoraSettings { rank: 2, alpha: 4.0, scaling: Scaling::Plain };
    let adapter = Arc::new(Adapter::new(&model.config, settings, 1));
    let mut engine = Engine::new(Arc::clone(&model), EngineConfig::default());
    let mut replies = Replies::new();
    for (id, adapter) in [(0, None), (1, None), (2, Some(adapter.clone())), (3, Some(adapter))] {
        engine.submit(Job { adapter, ..job(id, prompt(3, 30), Sampling::greedy(5)) }).unwrap();
        drain(&mut engine, &mut replies);
    }
    let cached: Vec<_> = (0..4).map(|id| replies[&id].3.tokens_cached.unwrap()).collect();
    assert_eq!(cached, [0, 29, 0, 29]);
    assert_eq!(replies[&0].1, replies[&1].1);
    assert_eq!(replies[&0].1, replies[&2].1, "a fresh adapter changes nothing");
}

#[test]
fn the_pool_keeps_to_its_size() {
    let config = EngineConfig { max_cached_tokens: 20, ..EngineConfig::default() };
    let mut engine = Engine::new(model(), config);
    for id in 0..2 {
        engine.submit(job(id, prompt(3, 30), Sampling::greedy(2))).unwrap();
        let mut replies = Replies::new();
        drain(&mut engine, &mut replies);
        assert_eq!(replies[&id].3.tokens_cached, Some(0));
    }
}

/// Room for one sequence of up to two pages, or for two of one.
fn two_pages() -> EngineConfig {
    EngineConfig { max_held_tokens: Some(2 * Page::POSITIONS), ..EngineConfig::default() }
}

#[test]
fn sequences_that_do_not_fit_together_run_one_after_the_other() {
    let jobs = || (0..4).map(|id| job(id, prompt(id as u32, 60), sampling(id, 20))).collect::<Vec<_>>();
    let together = run(jobs(), EngineConfig::default());
    let mut engine = Engine::new(model(), two_pages());
    jobs().into_iter().for_each(|job| engine.submit(job).unwrap());
    let mut replies = Replies::new();
    while !engine.is_idle() {
        for event in engine.step() {
            if let EventKind::Done { finish, usage, text, .. } = event.kind {
                replies.insert(event.id, (text.clone(), text, finish, usage));
            }
        }
        assert_eq!(engine.stepped(), 1);
        let taken: usize = engine.live.iter().map(|sequence| engine.most_positions(&sequence.job)).sum();
        assert!(taken + engine.pool.held() <= engine.room, "{taken} and {}", engine.pool.held());
    }
    assert_eq!(replies.len(), 4);
    for (id, reply) in replies {
        assert_eq!((reply.1, reply.2), (together[&id].1.clone(), together[&id].2.clone()), "job {id}");
    }
    // Those that are short enough share the room.
    (0..2).for_each(|id| engine.submit(job(id, prompt(id as u32, 40), sampling(id, 20))).unwrap());
    engine.step();
    assert_eq!(engine.stepped(), 2);
}

#[test]
fn the_pool_makes_room_before_anyone_waits() {
    let mut engine = Engine::new(model(), two_pages());
    let mut replies = Replies::new();
    engine.submit(job(0, prompt(3, 50), Sampling::greedy(2))).unwrap();
    drain(&mut engine, &mut replies);
    assert_eq!(engine.pool.held(), Page::POSITIONS);
    // One page is left beside the pool: enough for a sequence that then takes over what it held.
    engine.submit(job(1, prompt(3, 50), Sampling::greedy(5))).unwrap();
    drain(&mut engine, &mut replies);
    assert_eq!(replies[&1].3.tokens_cached, Some(49));
    (2..4).for_each(|id| engine.submit(job(id, prompt(id as u32, 40), Sampling::greedy(20))).unwrap());
    engine.step();
    assert_eq!((engine.stepped(), engine.pool.held()), (2, 0));
}

#[test]
fn what_was_cancelled_takes_no_room() {
    let mut engine = Engine::new(model(), two_pages());
    (0..3).for_each(|id| engine.submit(job(id, prompt(id as u32, 60), sampling(id, 60))).unwrap());
    let live = |engine: &Engine| engine.live.iter().map(|sequence| sequence.job.id).collect::<Vec<_>>();
    engine.step();
    assert_eq!(live(&engine), [0]);
    engine.cancel(1); // while it waits
    engine.cancel(0); // while it runs
    engine.step();
    assert_eq!(live(&engine), [2]);
}

#[test]
fn what_never_has_room_is_refused_with_the_way_out() {
    let mut engine =
        Engine::new(model(), EngineConfig { max_held_tokens: Some(Page::POSITIONS), ..EngineConfig::default() });
    let error = engine.submit(job(0, prompt(1, 40), Sampling::greedy(30))).unwrap_err();
    assert_eq!(error, SubmitError::NoRoom { tokens: 70, room: 64 });
    assert!(error.to_string().contains("raise `kv_cache_tokens`"), "{error}");
    engine.submit(job(0, prompt(1, 40), Sampling::greedy(24))).unwrap();
    let whole = Engine::new(model(), EngineConfig::default());
    assert!(whole.room >= whole.model.config.context_length);
}

#[test]
fn text_is_cut_before_a_stop_string_and_never_told_beyond() {
    let free = run(vec![job(0, prompt(2, 9), sampling(5, 40))], EngineConfig::default()).remove(&0).unwrap();
    let text = free.1;
    assert!(text.is_ascii() && text.len() > 12, "{text:?}");
    let stop = text[6..9].to_owned();
    let at = text.find(&stop).unwrap();
    let sampling = Sampling { stop: vec!["\u{1F600}".into(), stop], ..sampling(5, 40) };
    let cut = run(vec![job(0, prompt(2, 9), sampling)], EngineConfig::default()).remove(&0).unwrap();
    assert_eq!(cut.1, text[..at]);
    assert_eq!(cut.0, cut.1);
    assert_eq!(cut.2, Finish::Stop);
}

#[test]
fn length_is_the_job_limit_or_the_context() {
    let replies = run(
        vec![job(0, prompt(2, 9), Sampling::greedy(3)), job(1, prompt(2, 9), Sampling::greedy(0))],
        EngineConfig::default(),
    );
    assert_eq!((&replies[&0].2, replies[&0].3.tokens_out), (&Finish::Length, Some(3)));
    assert_eq!((&replies[&1].2, replies[&1].3.tokens_out), (&Finish::Length, Some(0)));
    let full = run(vec![job(0, prompt(2, 126), Sampling::greedy(50))], EngineConfig::default());
    assert!(full[&0].3.tokens_out.unwrap() <= 2, "{:?}", full[&0]);
}

#[test]
fn what_cannot_run_is_refused_with_its_lengths() {
    let mut engine = Engine::new(model(), EngineConfig::default());
    let submit = |engine: &mut Engine, prompt| engine.submit(job(7, prompt, Sampling::greedy(3)));
    assert_eq!(submit(&mut engine, vec![]), Err(SubmitError::EmptyPrompt));
    let error = submit(&mut engine, prompt(1, 128)).unwrap_err();
    assert_eq!(error, SubmitError::PromptTooLong { prompt: 128, context: 128 });
    assert_eq!(submit(&mut engine, vec![101]), Err(SubmitError::UnknownToken { id: 101, vocab: 101 }));
    submit(&mut engine, vec![5]).unwrap();
    assert_eq!(submit(&mut engine, vec![5]), Err(SubmitError::DuplicateId { id: 7 }));
    let other = Arc::new(tiny_model("tiny-llama"));
    let settings = LoraSettings { rank: 2, alpha: 4.0, scaling: Scaling::Plain };
    let mut adapter = Adapter::new(&other.config, settings, 1);
    adapter.layers.pop();
    let foreign = Job { adapter: Some(Arc::new(adapter)), ..job(8, vec![5], Sampling::greedy(1)) };
    assert!(matches!(engine.submit(foreign), Err(SubmitError::Adapter { .. })));
}

#[test]
fn a_cancelled_job_is_silent_and_the_others_go_on() {
    let jobs = || (0..3).map(|id| job(id, prompt(1, 40), sampling(id, 8)));
    let undisturbed = run(jobs().collect(), EngineConfig::default());
    let mut engine = Engine::new(model(), EngineConfig { prefill_chunk: 16, ..EngineConfig::default() });
    jobs().for_each(|job| engine.submit(job).unwrap());
    assert!(engine.step().is_empty());
    engine.cancel(0); // the one whose prefix the others wait for
    engine.cancel(99);
    let mut replies = Replies::new();
    drain(&mut engine, &mut replies);
    assert_eq!(replies.len(), 2);
    assert_eq!(replies[&1].1, undisturbed[&1].1);
    assert_eq!(replies[&2].1, undisturbed[&2].1);
    assert!(replies[&1].3.tokens_cached >= Some(16), "what was computed for the cancelled one is kept");
}

#[test]
fn a_reply_is_held_to_its_schema_and_its_neighbour_is_not() {
    let schema = serde_json::json!({ "type": "array", "items": { "enum": [1, 23] }, "minItems": 2, "maxItems": 3 });
    let held = |schema| {
        let format = Some(Box::new(ReplyFormat { name: "numbers".to_owned(), schema }));
        Sampling { format, ..sampling(4, 60) }
    };
    let alone = run(vec![job(1, prompt(1, 9), sampling(4, 60))], EngineConfig::default());
    let jobs = vec![job(0, prompt(1, 9), held(schema)), job(1, prompt(1, 9), sampling(4, 60))];
    let both = run(jobs, EngineConfig::default());
    let numbers: Vec<u32> = serde_json::from_str(&both[&0].1).unwrap();
    assert!((2..=3).contains(&numbers.len()) && numbers.iter().all(|number| [1, 23].contains(number)), "{numbers:?}");
    assert_eq!(both[&0].2, Finish::Stop);
    assert_eq!(both[&1].1, alone[&1].1);

    let mut engine = Engine::new(model(), EngineConfig::default());
    let refused = engine.submit(job(0, prompt(1, 9), held(serde_json::json!({ "type": "nmuber" })))).unwrap_err();
    assert!(refused.to_string().contains("nmuber"), "{refused}");
    assert!(engine.is_idle());
}

#[test]
fn every_token_has_its_log_probability_where_that_is_wanted() {
    let mut engine = Engine::new(model(), EngineConfig::default());
    engine.submit(Job { log_probabilities: true, ..job(0, prompt(2, 9), Sampling::greedy(5)) }).unwrap();
    engine.submit(job(1, prompt(2, 9), Sampling::greedy(5))).unwrap();
    let mut told = HashMap::new();
    while !engine.is_idle() {
        for event in engine.step() {
            if let EventKind::Done { usage, log_probabilities, .. } = event.kind {
                told.insert(event.id, (usage.tokens_out.unwrap() as usize, log_probabilities));
            }
        }
    }
    let (written, of_tokens) = &told[&0];
    assert_eq!(of_tokens.len(), *written);
    // Greedy: at least as likely as one of 101 tokens can be at best.
    assert!(of_tokens.iter().all(|p| *p <= 0.0 && *p >= -(101f32.ln())), "{of_tokens:?}");
    assert!(told[&1].1.is_empty());
}

#[test]
fn a_model_with_damaged_weights_ends_its_jobs_and_not_its_thread() {
    let mut damaged = tiny_model("tiny-qwen2");
    damaged.weights.final_norm[0] = f32::NAN;
    let mut engine = Engine::new(Arc::new(damaged), EngineConfig::default());
    engine.submit(job(0, prompt(1, 9), sampling(1, 5))).unwrap();
    engine.submit(job(1, prompt(2, 9), Sampling::greedy(5))).unwrap();
    let ends: Vec<(u64, bool)> =
        engine.step().iter().map(|event| (event.id, matches!(event.kind, EventKind::Broken))).collect();
    assert_eq!((ends, engine.is_idle()), (vec![(0, true), (1, true)], true));
}

#[test]
fn a_steps_time_is_shared_by_the_tokens_in_it() {
    let mut engine = Engine::new(model(), EngineConfig::default());
    for (id, len) in [(0, 9), (1, 90)] {
        engine.submit(job(id, prompt(id as u32 + 1, len), Sampling::greedy(1))).unwrap();
    }
    let began = Instant::now();
    let events = engine.step();
    let took = began.elapsed();
    let worked = |id| {
        let of = |event: &Event| match event.kind {
            EventKind::Done { worked, .. } if event.id == id => Some(worked),
            _ => None,
        };
        events.iter().find_map(of).unwrap()
    };
    let (short, long) = (worked(0), worked(1));
    assert!(short > Duration::ZERO && short + long <= took, "{short:?} {long:?} {took:?}");
    let ratio = long.as_secs_f64() / short.as_secs_f64();
    assert!((ratio - 10.0).abs() < 0.1, "{ratio}");
}
