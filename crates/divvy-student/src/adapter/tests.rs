use std::fs;
use std::path::PathBuf;

use super::*;
use crate::config::Arch;
use crate::template::ChatTemplate;
use crate::testing::{CHATML, tiny_model};

fn config() -> ModelConfig {
    ModelConfig {
        arch: Arch::Llama,
        layers: 2,
        hidden: 24,
        query_heads: 4,
        kv_heads: 2,
        head_dim: 6,
        ffn: 40,
        vocab: 50,
        rope_theta: 10_000.0,
        rms_eps: 1e-5,
        qkv_bias: false,
        tied: true,
        context_length: 64,
        variant: Default::default(),
    }
}

fn settings() -> LoraSettings {
    LoraSettings { rank: 3, alpha: 6.0, scaling: Scaling::RankStabilised }
}

/// An adapter that does something: B is random too.
fn trained() -> Adapter {
    let mut adapter = Adapter::new(&config(), settings(), 11);
    let mut random = Random::new(12, 0);
    for factors in adapter.layers.iter_mut().flatten() {
        factors.b.iter_mut().for_each(|b| *b = random.symmetric(0.3));
    }
    adapter
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("divvy-adapter-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn label() -> AdapterLabel {
    AdapterLabel { base: "b".repeat(64), base_name: "tiny".into(), canary: vec![1, 2, 3], ..AdapterLabel::default() }
}

#[test]
fn saved_and_loaded_it_is_the_same() {
    let folder = Folder::new("same");
    let adapter = trained();
    let manifest = adapter.save(&folder.0, &label()).unwrap();
    let first = fs::read(folder.0.join("adapter_model.safetensors")).unwrap();
    let (loaded, read) = Adapter::load(&folder.0, &config(), &[&label().base]).unwrap();
    assert_eq!(loaded, adapter);
    assert_eq!(read.unwrap(), manifest);
    assert_eq!(loaded.digest(), adapter.digest());
    adapter.save(&folder.0, &label()).unwrap();
    assert_eq!(fs::read(folder.0.join("adapter_model.safetensors")).unwrap(), first, "same adapter, same bytes");
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 3, "no temporary file stays behind");
}

#[test]
fn the_seed_decides_and_a_fresh_adapter_changes_nothing() {
    let fresh = |seed| Adapter::new(&config(), settings(), seed);
    assert_eq!(fresh(1), fresh(1));
    assert_ne!(fresh(1).digest(), fresh(2).digest());
    let factors = fresh(1).layers[1][6].clone();
    assert!(factors.b.iter().all(|&b| b == 0.0));
    let bound = 1.0 / (40f32).sqrt();
    assert!(factors.a.iter().all(|a| a.abs() <= bound) && factors.a.iter().any(|a| a.abs() > bound / 2.0));
}

#[test]
fn applied_equals_merged() {
    let (config, adapter) = (config(), trained());
    let mut random = Random::new(3, 0);
    for fused in Fused::ALL {
        let [outputs, inputs] = fused.shape(&config);
        let x: Vec<f32> = (0..5 * inputs).map(|_| random.symmetric(1.0)).collect();
        let mut y = vec![0.0; 5 * outputs];
        adapter.apply(1, fused, &x, &mut y);
        for row in 0..outputs {
            let mut weights = vec![0.0; inputs];
            let part = fused.parts().iter().rev().find(|&&part| config.fused_offset(part) <= row).unwrap();
            adapter.merge_row(1, *part, row - config.fused_offset(*part), &mut weights);
            for (token, x) in x.chunks(inputs).enumerate() {
                let want: f32 = weights.iter().zip(x).map(|(w, x)| w * x).sum();
                assert!((y[token * outputs + row] - want).abs() < 1e-2, "{fused:?} row {row}: {want}");
            }
        }
    }
}

#[test]
fn another_base_is_refused_by_name() {
    let folder = Folder::new("base");
    trained().save(&folder.0, &label()).unwrap();
    let error = Adapter::load(&folder.0, &config(), &["cafe", "beef"]).unwrap_err();
    assert!(matches!(error, AdapterError::WrongBase { .. }), "{error}");
    assert!(error.to_string().contains("cafe"));
}

#[test]
fn a_base_that_reads_other_words_is_refused() {
    let (folder, mut model) = (Folder::new("words"), tiny_model("tiny-llama"));
    let (adapter, label) = (Adapter::new(&model.config, settings(), 1), AdapterLabel::of(&model).unwrap());
    adapter.save(&folder.0, &label).unwrap();
    assert_eq!(model.adapter(&folder.0).unwrap(), adapter);
    model.template = ChatTemplate::new(format!("{CHATML} ")).unwrap().into();
    let error = model.adapter(&folder.0).unwrap_err().to_string();
    assert!(error.contains("divvy.json") && error.contains("another chat template"), "{error}");
    model.template = ChatTemplate::new(CHATML.into()).unwrap().into();
    let mut read_otherwise = label.clone();
    read_otherwise.canary[3] += 1;
    adapter.save(&folder.0, &read_otherwise).unwrap();
    let error = model.adapter(&folder.0).unwrap_err().to_string();
    assert!(error.contains("another tokenizer"), "{error}");
    adapter.save(&folder.0, &AdapterLabel { base: label.base, ..AdapterLabel::default() }).unwrap();
    assert_eq!(model.adapter(&folder.0).unwrap(), adapter, "what a label does not say is not asked");
}

/// The write ends before `divvy.json`, in a new folder and over an adapter that was there.
#[test]
fn a_folder_that_was_cut_is_no_adapter_of_others() {
    let folder = Folder::new("cut");
    for before in [None, Some(trained())] {
        if let Some(before) = before {
            before.save(&folder.0, &label()).unwrap();
        }
        let manifest = folder.0.join("divvy.json");
        let _ = fs::remove_file(&manifest);
        fs::create_dir_all(&manifest).unwrap();
        let error = trained().save(&folder.0, &label()).unwrap_err().to_string();
        assert!(error.contains("divvy.json"), "{error}");
        fs::remove_dir(&manifest).unwrap();
        let error = Adapter::load(&folder.0, &config(), &["cafe"]).unwrap_err().to_string();
        assert!(error.contains("adapter_config.json"), "{error}");
    }
}

#[test]
fn another_shape_is_refused_with_the_key() {
    let folder = Folder::new("shape");
    trained().save(&folder.0, &label()).unwrap();
    let wider = ModelConfig { ffn: 44, ..config() };
    let error = Adapter::load(&folder.0, &wider, &[&label().base]).unwrap_err().to_string();
    assert!(error.contains("mlp.gate_proj.lora_B") && error.contains("[40, 3]"), "{error}");
    assert!(trained().check(&wider).unwrap_err().to_string().contains("mlp.gate_proj"));
    let deeper = ModelConfig { layers: 3, ..config() };
    let error = Adapter::load(&folder.0, &deeper, &[&label().base]).unwrap_err().to_string();
    assert!(error.contains("layers.2.self_attn.q_proj.lora_A.weight is missing"), "{error}");
    let shallower = ModelConfig { layers: 1, ..config() };
    let error = Adapter::load(&folder.0, &shallower, &[&label().base]).unwrap_err().to_string();
    assert!(error.contains("layers.1."), "{error}");
}

#[test]
fn what_we_would_get_wrong_is_refused() {
    let folder = Folder::new("dora");
    trained().save(&folder.0, &label()).unwrap();
    let path = folder.0.join("adapter_config.json");
    let good = fs::read_to_string(&path).unwrap();
    for (from, to, key) in [
        ("\"bias\": \"none\"", "\"bias\": \"all\"", "bias"),
        ("\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]", "modules_to_save"),
        ("\"modules_to_save\": null", "\"use_dora\": true", "use_dora"),
        ("\"LORA\"", "\"IA3\"", "peft_type"),
        ("\"r\": 3", "\"r\": 0", "r is 0"),
        ("\"modules_to_save\": null", "\"layer_replication\": [[0, 2], [1, 2]]", "layer_replication"),
        ("\"modules_to_save\": null", "\"alora_invocation_tokens\": [7]", "alora_invocation_tokens"),
        ("\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa_niter_16\"", "init_lora_weights"),
        ("\"init_lora_weights\": true", "\"init_lora_weights\": \"olora\"", "init_lora_weights"),
        ("\"init_lora_weights\": true", "\"init_lora_weights\": \"corda\"", "init_lora_weights"),
        ("\"init_lora_weights\": true", "\"init_lora_weights\": \"loftq\"", "init_lora_weights"),
    ] {
        assert!(good.contains(from), "{from} in {good}");
        fs::write(&path, good.replace(from, to)).unwrap();
        let error = Adapter::load(&folder.0, &config(), &[&label().base]).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    for init in ["false", "\"gaussian\"", "\"eva\""] {
        let changed = good.replace("\"init_lora_weights\": true", &format!("\"init_lora_weights\": {init}"));
        fs::write(&path, changed).unwrap();
        assert_eq!(Adapter::load(&folder.0, &config(), &[&label().base]).unwrap().0, trained(), "{init}");
    }
}

#[test]
fn a_changed_factor_or_a_cut_file_is_noticed() {
    let folder = Folder::new("damage");
    trained().save(&folder.0, &label()).unwrap();
    let path = folder.0.join("adapter_model.safetensors");
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bytes in [&flipped[..], &good[..good.len() / 2], &good[..4]] {
        fs::write(&path, bytes).unwrap();
        let error = Adapter::load(&folder.0, &config(), &[&label().base]).unwrap_err();
        assert!(matches!(error, AdapterError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn a_peft_adapter_on_some_projections_leaves_the_others_alone() {
    let folder = Folder::new("subset");
    let mut adapter = trained();
    for factors in &mut adapter.layers {
        for projection in Projection::ALL.into_iter().filter(|p| ![Projection::Query, Projection::Value].contains(p)) {
            let factors = &mut factors[projection as usize];
            factors.a.clear();
            factors.b.clear();
        }
    }
    fs::create_dir_all(&folder.0).unwrap();
    fs::write(
        folder.0.join("adapter_config.json"),
        r#"{"peft_type":"LORA","r":3,"lora_alpha":6,"use_rslora":true,"target_modules":["q_proj","v_proj"],"bias":"none"}"#,
    )
    .unwrap();
    let all = adapter.clone();
    let refs: Vec<_> = all
        .layers
        .iter()
        .enumerate()
        .flat_map(|(layer, factors)| {
            [Projection::Query, Projection::Value].into_iter().flat_map(move |p| {
                let f = &factors[p as usize];
                [('A', &f.a, vec![3, f.inputs]), ('B', &f.b, vec![f.outputs, 3])]
                    .map(|(which, values, shape)| files::TensorRef { name: peft::key(layer, p, which), shape, values })
            })
        })
        .collect();
    let mut bytes = Vec::new();
    files::write_tensors(&mut bytes, &Default::default(), &refs).unwrap();
    fs::write(folder.0.join("adapter_model.safetensors"), bytes).unwrap();
    let (loaded, manifest) = Adapter::load(&folder.0, &config(), &["any base: PEFT does not say"]).unwrap();
    assert_eq!(loaded, adapter);
    assert!(manifest.is_none());
    is_as_with_zeros(&loaded);
    loaded.save(&folder.0, &label()).unwrap();
    assert_eq!(Adapter::load(&folder.0, &config(), &[&label().base]).unwrap().0, loaded);
}

/// No factors, or factors that are zero: it is the same adapter.
fn is_as_with_zeros(adapter: &Adapter) {
    let mut layers = adapter.layers.clone();
    for factors in layers.iter_mut().flatten().filter(|factors| factors.rank() == 0) {
        (factors.a, factors.b) = (vec![0.0; 3 * factors.inputs], vec![0.0; 3 * factors.outputs]);
    }
    let (zeros, mut random) = (Adapter::of(settings(), layers), Random::new(5, 0));
    for fused in Fused::ALL {
        let [outputs, inputs] = fused.shape(&config());
        let x: Vec<f32> = (0..2 * inputs).map(|_| random.symmetric(1.0)).collect();
        let [got, want] = [adapter, &zeros].map(|adapter| {
            let mut y = vec![0.5; 2 * outputs];
            adapter.apply(1, fused, &x, &mut y);
            y
        });
        assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-4), "{fused:?}: {got:?}, {want:?}");
        assert_eq!(got.iter().all(|y| *y == 0.5), fused != Fused::Qkv, "{fused:?}");
    }
    let mut row = [0.5; 40];
    adapter.merge_row(0, Projection::Down, 3, &mut row);
    assert_eq!(row, [0.5; 40]);
}

/// In f32 where training multiplies the factors in it, and in bf16 where it rounds them.
#[test]
fn factors_are_multiplied_in_the_numbers_of_training() {
    let (adapter, mut random) = (trained(), Random::new(7, 0));
    let most = if divvy_kernels::Isa::current().rounds() { 2e-2 } else { 1e-5 };
    for fused in Fused::ALL {
        let [outputs, inputs] = fused.shape(&config());
        let x: Vec<f32> = (0..inputs).map(|_| random.symmetric(1.0)).collect();
        let mut got = vec![0.0; outputs];
        adapter.apply(1, fused, &x, &mut got);
        let want = fused.parts().iter().flat_map(|&part| {
            let rows = 0..adapter.factors(1, part).outputs;
            rows.map(move |row| (part, row)).collect::<Vec<_>>()
        });
        let want: Vec<f32> = want
            .map(|(part, row)| {
                let mut merged = vec![0.0; inputs];
                adapter.merge_row(1, part, row, &mut merged);
                merged.iter().zip(&x).map(|(weight, x)| weight * x).sum()
            })
            .collect();
        let largest = want.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        assert!(largest > 0.01, "{fused:?}: the adapter does something");
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() < most * largest, "{fused:?}: {got}, not {want}");
        }
    }
}

/// A rank by itself takes no memory.
#[test]
fn an_adapter_is_as_large_as_its_file() {
    let folder = Folder::new("rank");
    fs::create_dir_all(&folder.0).unwrap();
    fs::write(
        folder.0.join("adapter_config.json"),
        r#"{"peft_type":"LORA","r":4096,"lora_alpha":6,"target_modules":[],"bias":"none"}"#,
    )
    .unwrap();
    let mut bytes = Vec::new();
    files::write_tensors(&mut bytes, &Default::default(), &[]).unwrap();
    fs::write(folder.0.join("adapter_model.safetensors"), bytes).unwrap();
    let (loaded, _) = Adapter::load(&folder.0, &config(), &["any"]).unwrap();
    assert_eq!(loaded.parameters(), 0);
}
