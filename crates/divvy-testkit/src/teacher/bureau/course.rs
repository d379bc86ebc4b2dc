//! A batch from step to step, and the files that it brings at its end.

use serde_json::{Value, json};

use super::{
    super::{Class, usage_of},
    Bureau, Desk, Fate, HandedIn, RowFate,
};

impl HandedIn {
    pub(super) fn view(&self) -> Value {
        let fault = match &self.fate {
            Fate::Refuse { code, message } if self.status == "failed" => {
                json!({"object": "list", "data": [{"code": code, "message": message, "line": null}]})
            }
            _ => Value::Null,
        };
        let completed = if self.output.is_some() { self.answered() } else { 0 };
        json!({
            "id": self.id, "object": "batch", "status": self.status, "metadata": self.metadata,
            "created_at": self.created_at, "input_file_id": self.file, "output_file_id": self.output,
            "error_file_id": self.errors, "errors": fault,
            "request_counts": {"total": self.rows.len(), "completed": completed, "failed": 0},
        })
    }

    /// Rows that it answers before it ends.
    fn answered(&self) -> usize {
        match self.fate {
            Fate::Hold { answered } if self.status == "cancelled" => answered,
            Fate::Expire { answered } => answered,
            _ => self.rows.len(),
        }
    }
}

impl Class {
    /// A step further.
    pub(super) fn proceed(&self, desk: &Desk, id: &str) {
        let mut cabinet = desk.cabinet();
        let released = cabinet.released;
        let Some(batch) = cabinet.batch(id) else { return };
        if matches!(batch.status, "completed" | "expired" | "cancelled" | "failed") {
            return;
        }
        batch.looks += 1;
        let held = matches!(batch.fate, Fate::Hold { .. }) && !released;
        batch.status = match &batch.fate {
            _ if batch.status == "cancelling" => "cancelled",
            Fate::Refuse { .. } => "failed",
            _ if batch.looks <= 1 && desk.bureau.looks > 1 => "validating",
            _ if held || batch.looks + 1 < desk.bureau.looks => "in_progress",
            _ if batch.looks < desk.bureau.looks => "finalizing",
            Fate::Expire { .. } => "expired",
            _ => "completed",
        };
        if matches!(batch.status, "completed" | "expired" | "cancelled") {
            let (output, errors) = self.results(&desk.bureau, batch);
            let output = cabinet.keep(output);
            let errors = (!errors.is_empty()).then(|| cabinet.keep(errors));
            let batch = cabinet.batch(id).expect("it was there");
            (batch.output, batch.errors) = (Some(output), errors);
        }
    }

    /// The file of replies and the file of errors. Replies come in another order than they were asked for.
    fn results(&self, bureau: &Bureau, batch: &HandedIn) -> (Vec<u8>, Vec<u8>) {
        let (mut output, mut errors) = (String::new(), String::new());
        for (at, (id, asked)) in batch.rows.iter().zip(&batch.asked).enumerate().rev() {
            if at >= batch.answered() {
                let code = format!("batch_{}", batch.status);
                let error = json!({"code": code, "message": "This request was not answered in time."});
                errors.push_str(&format!("{}\n", json!({"custom_id": id, "response": null, "error": error})));
                continue;
            }
            let line = |status: u16, body: Value| {
                let response = json!({"status_code": status, "request_id": "r", "body": body});
                json!({"id": "batch_req", "custom_id": id, "response": response, "error": null}).to_string()
            };
            let answer = || {
                let text = (self.rule)(asked);
                line(200, self.completion(&text, "stop", Some(usage_of(&text, asked))))
            };
            match (bureau.row)(asked, batch.number) {
                RowFate::Answered => output.push_str(&format!("{}\n", answer())),
                RowFate::Status(status, message) => {
                    let body = json!({"error": {"message": message, "type": "scripted", "code": null}});
                    errors.push_str(&format!("{}\n", line(status, body)));
                }
                RowFate::Missing => {}
                RowFate::Torn => output.push_str(&format!("{}\n", &answer()[..20])),
                RowFate::Twice => {
                    let stranger = json!({"custom_id": "stranger", "response": null, "error": null});
                    let foreign = answer().replace(id, &"0".repeat(64));
                    output.push_str(&format!("{0}\n{foreign}\n{stranger}\n{0}\n", answer()));
                }
            }
        }
        (output.into_bytes(), errors.into_bytes())
    }
}
