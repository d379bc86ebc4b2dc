//! `divvy export`: a trained student as a folder of its own, in a form that other programs load, with a model card.

use std::{fs, path::Path, sync::Arc};

use anyhow::Context as _;
use divvy_core::{model::ModelSource, plan::StudentPlan};
use divvy_data::models::catalogue;
use divvy_flow::train::{self, Artefact};
use divvy_launch::engines::Engine;
use divvy_report::{Card, card};
use divvy_student::{
    adapter::Adapter,
    export::{About, Export, Precision, gguf_adapter},
    model::Model,
};

use crate::{
    cli::{Dtype, Place, StudentForm},
    commands::export_for::HandOver,
    output::{Usage, say},
    session::{Access, Session},
};

pub(crate) struct Asked<'a> {
    pub(crate) student: &'a str,
    pub(crate) format: Option<StudentForm>,
    pub(crate) dtype: Dtype,
    /// With all that this needs to serve it, instead of one form.
    pub(crate) engine: Option<Engine>,
    pub(crate) out: &'a Path,
}

pub(crate) async fn run(place: &Place, asked: &Asked<'_>) -> anyhow::Result<()> {
    let session = Session::open(place, Access::Look).await?;
    let (context, student, out) = (&session.context, asked.student, asked.out);
    let plan = student_plan(&session, student)?;
    let Some(artefact) = train::of_plan(context, student).await? else {
        anyhow::bail!("`{student}` is not trained yet; run `divvy train {}` first", place.recipe.display());
    };
    if out.exists() {
        return Err(Usage(format!("--out: `{}` is already there; name a new folder", out.display())).into());
    }
    let form = form(asked, artefact.path.join("adapter_config.json").exists())?;
    let partial = out.with_extension("partial");
    let digests = vec![
        ("base", base_digest(&artefact.path)?),
        ("student", artefact.content.clone()),
        ("plan", context.digest.hex().to_owned()),
    ];
    let work = Work { session: &session, plan, artefact: &artefact, asked, folder: &partial, digests };
    let hand_over = asked.engine.map(|engine| HandOver::prepare(&work, engine)).transpose()?;
    fs::create_dir_all(&partial).with_context(|| format!("cannot make `{}`", partial.display()))?;
    let written = hand_over.as_ref().map_or_else(|| work.write(form), |hand_over| hand_over.write(&work))?;
    let text = work.card(form, &written, &session.results().await?);
    fs::write(partial.join("README.md"), text).with_context(|| format!("cannot write into `{}`", partial.display()))?;
    fs::rename(&partial, out).with_context(|| format!("cannot write `{}`", out.display()))?;
    say(&format!("wrote {} ({} rows, digest {})", out.display(), artefact.rows, &artefact.content[..12]));
    hand_over.map_or(Ok(()), |hand_over| hand_over.tell(&work))
}

/// The student that `--student` names.
pub(crate) fn student_plan<'s>(session: &'s Session, student: &str) -> anyhow::Result<&'s StudentPlan> {
    let students = &session.context.plan.students;
    let known = || match students.is_empty() {
        true => "none; [students.NAME] adds one".to_owned(),
        false => students.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    let unknown = || Usage(format!("--student: the recipe has no student `{student}`; it has {}", known()));
    Ok(students.get(student).ok_or_else(unknown)?)
}

/// What was asked for, or what the student is already.
fn form(asked: &Asked<'_>, lora: bool) -> Result<StudentForm, Usage> {
    let student = asked.student;
    match asked.format {
        None if lora => Ok(StudentForm::Peft),
        None => Ok(StudentForm::Safetensors),
        Some(StudentForm::Peft | StudentForm::GgufLora) if !lora => Err(Usage(format!(
            "--format: all weights of `{student}` were trained, so that it has no adapter; choose safetensors or gguf"
        ))),
        Some(form) => Ok(form),
    }
}

/// One export under way.
#[derive(Clone)]
pub(crate) struct Work<'a> {
    session: &'a Session,
    pub(crate) plan: &'a StudentPlan,
    artefact: &'a Artefact,
    pub(crate) asked: &'a Asked<'a>,
    pub(crate) folder: &'a Path,
    /// What the student was made from.
    digests: Vec<(&'static str, String)>,
}

/// File or files → what they are.
pub(crate) type Files = Vec<(String, String)>;

impl<'a> Work<'a> {
    /// The same into another folder.
    pub(crate) fn at<'b>(&self, folder: &'b Path) -> Work<'b>
    where
        'a: 'b,
    {
        Work { folder, ..self.clone() }
    }

    pub(crate) fn write(&self, form: StudentForm) -> anyhow::Result<Files> {
        let file = |name: &str, what: &str| vec![(name.to_owned(), what.to_owned())];
        match form {
            StudentForm::Peft => {
                copy(&self.artefact.path, self.folder)?;
                Ok(file("adapter_model.safetensors", "the adapter, in PEFT's layout"))
            }
            StudentForm::Safetensors => {
                self.merged(|export| Ok(export.safetensors(self.folder)?))?;
                Ok(file(
                    "model.safetensors",
                    "the student's weights, base and adapter in one; `transformers` loads the folder",
                ))
            }
            StudentForm::Gguf => {
                let name = self.file_of(form);
                self.merged(|export| Ok(export.gguf(&self.folder.join(&name))?))?;
                Ok(file(&name, "the student's weights, base and adapter in one; `llama-server -m` loads it"))
            }
            StudentForm::GgufLora => {
                let name = self.file_of(form);
                let (base, adapter) = self.adapter()?;
                gguf_adapter(&self.folder.join(&name), &base.config, &adapter, &self.about(true))?;
                Ok(file(
                    &name,
                    "the adapter; `llama-server -m BASE --lora` loads it, on the base that `--format base-gguf` writes",
                ))
            }
            StudentForm::Base => {
                self.base(|export| Ok(export.safetensors(self.folder)?))?;
                Ok(file("model.safetensors", "the base alone, as the student was trained on it"))
            }
            StudentForm::BaseGguf => {
                let name = self.file_of(form);
                self.base(|export| Ok(export.gguf(&self.folder.join(&name))?))?;
                Ok(file(&name, "the base alone, as the student was trained on it"))
            }
        }
    }

    fn precision(&self) -> Precision {
        match self.asked.dtype {
            Dtype::Bf16 => Precision::Bf16,
            Dtype::F32 => Precision::F32,
        }
    }

    /// The one file that a form comes to; empty where it is a folder.
    pub(crate) fn file_of(&self, form: StudentForm) -> String {
        let precision = self.precision().name();
        match form {
            StudentForm::Gguf => format!("{}-{precision}.gguf", self.asked.student),
            StudentForm::GgufLora => format!("{}-lora.gguf", self.asked.student),
            StudentForm::BaseGguf => format!("{}-{precision}.gguf", self.plan.base),
            StudentForm::Peft | StudentForm::Safetensors | StudentForm::Base => String::new(),
        }
    }

    /// Whether it is an adapter on its base.
    pub(crate) fn lora(&self) -> bool {
        self.artefact.path.join("adapter_config.json").exists()
    }

    /// The model whose words and template the student has.
    pub(crate) fn speaker(&self) -> anyhow::Result<Arc<Model>> {
        self.session.base(&self.plan.base)
    }

    /// Whether its kind of model can be a GGUF file.
    pub(crate) fn check_gguf(&self) -> anyhow::Result<()> {
        let (model, about) = (self.speaker()?, self.about(false));
        let name = Path::new(self.asked.student);
        Ok(Export { model: &model, adapter: None, precision: self.precision(), about: &about }.check_gguf(name)?)
    }

    fn adapter(&self) -> anyhow::Result<(Arc<Model>, Adapter)> {
        let base = self.session.base(&self.plan.base)?;
        let adapter = base.adapter(&self.artefact.path)?;
        Ok((base, adapter))
    }

    /// The student whole: base and adapter, or the weights that stand alone.
    fn merged(&self, write: impl FnOnce(Export<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let (about, precision) = (self.about(true), self.precision());
        if self.lora() {
            let (model, adapter) = self.adapter()?;
            write(Export { model: &model, adapter: Some(&adapter), precision, about: &about })
        } else {
            let model = Model::load(&self.artefact.path)?;
            write(Export { model: &model, adapter: None, precision, about: &about })
        }
    }

    fn base(&self, write: impl FnOnce(Export<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let model = self.session.base(&self.plan.base)?;
        write(Export { model: &model, adapter: None, precision: self.precision(), about: &self.about(false) })
    }

    /// Of the student, or of its base.
    fn about(&self, student: bool) -> About {
        let own = if student { self.asked.student } else { &self.plan.base };
        let own_digests = self.digests.iter().filter(|(what, _)| student || *what == "base");
        let origin = own_digests.map(|(what, digest)| ((*what).to_owned(), digest.clone())).collect();
        let name = format!("{} {own}", self.session.context.plan.name);
        About { name, licence: self.licence().map(str::to_owned), origin }
    }

    /// Of the base, where the catalogue knows it.
    fn licence(&self) -> Option<&'static str> {
        let source: ModelSource = self.session.recipe.models.get(&self.plan.base)?.source.parse().ok()?;
        catalogue::matching(&source).map(|known| known.licence)
    }

    fn card(&self, form: StudentForm, files: &Files, results: &divvy_core::results::Results) -> String {
        let library = match form {
            StudentForm::Peft => "peft",
            StudentForm::Safetensors | StudentForm::Base => "transformers",
            StudentForm::Gguf | StudentForm::GgufLora | StudentForm::BaseGguf => "gguf",
        };
        card(
            results,
            &Card {
                student: self.asked.student,
                library,
                files,
                digests: &self.digests,
                licence: self.licence(),
                recipe: self.session.to_keep.as_ref().map(|kept| kept.text.as_str()),
            },
        )
    }
}

/// Content hash of the base, as the student's manifest has it.
fn base_digest(student: &Path) -> anyhow::Result<String> {
    let path = student.join("divvy.json");
    let read = || -> anyhow::Result<String> {
        let manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
        Ok(manifest["base"].as_str().context("it names no base")?.to_owned())
    };
    read().with_context(|| format!("cannot read `{}`", path.display()))
}

/// Whole files of one folder into another.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))? {
        let path = entry?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            fs::copy(&path, to.join(name)).with_context(|| format!("cannot copy `{}`", path.display()))?;
        }
    }
    Ok(())
}
