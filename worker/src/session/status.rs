//! The session's status (PROTOCOL §8) and Tithon's additions to it.

use std::path::Path;

use serde_json::{Map, Value, json};
use tithon_ipc::json;

use super::{Session, kernel::KernelSlot};
use crate::kernel::tree;

/// What a size target is: everything that is not raw output stays, however large.
const LIMIT_KIND: &str =
    "soft target; current outputs, executions, widgets and lifecycle records are retained";

impl Session {
    /// The status as a JSON object's text.
    pub(super) fn status(&self) -> String {
        let mut status = Map::new();
        if let Value::Object(fields) = self.protocol_fields() {
            status.extend(fields);
        }
        if let Value::Object(fields) = self.own_fields() {
            status.extend(fields);
        }
        json::to_string(&status)
    }

    fn protocol_fields(&self) -> Value {
        let kernel = self.kernel.running();
        json!({
            "session": self.place.id,
            "kernel_pid": self.kernel.pid(),
            "kernel_status": self.kernel.status(),
            "kernel_python": kernel.and_then(|kernel| kernel.language_version.as_deref()),
            "kernel_reattached": kernel.is_some_and(|kernel| kernel.reattached),
            "kernel_lost_state": self.lifecycle.lost_state,
            "kernel_generation": self.lifecycle.generation,
            "queue_len": self.queue_len(),
            "max_seq": self.applied,
            "executions": self.executions,
            "widget_models": self.widgets.len(),
            "storage": self.storage(),
            "clients": self.feed.readers(),
            "idle_seconds": (self.last_touch.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        })
    }

    fn storage(&self) -> Value {
        let (image_bytes, missing_images) = self.artifacts.totals();
        json!({
            "physical_bytes": {
                "db": self.file_len("journal.db"),
                "wal": self.file_len("journal.db-wal"),
                "shm": self.file_len("journal.db-shm"),
            },
            "logical_bytes": self.journal.logical_bytes(),
            "referenced_image_bytes": (missing_images == 0).then_some(image_bytes),
            "missing_images": missing_images,
            "shared_output_bytes": self.publication.as_ref().map_or(0, |sidecar| sidecar.bytes),
            "shared_images_may_be_counted_in_multiple_sessions": true,
            "message_count": self.applied - self.history.deleted(),
            "policy": {
                "retention_days": self.settings.retention_days,
                "target_mib": self.settings.target_mib,
            },
            "last_cleanup": self.history.cleanup,
            "target_exceeded": self.excess_bytes() > 0,
            "limit_kind": LIMIT_KIND,
        })
    }

    fn own_fields(&self) -> Value {
        let kernel = self.kernel.running();
        let usage = kernel.map(|kernel| tree::usage(kernel.process.pid()));
        let running = self.running.as_ref().map(
            |running| json!({"exec_id": running.exec.to_string(), "started_at": running.started}),
        );
        json!({
            "state": self.state(),
            "language": kernel.map(|kernel| &kernel.launch.language),
            "kernel_name": kernel.map(|kernel| &kernel.launch.kernel_name),
            "launch_why": kernel.map(|kernel| &kernel.launch.why),
            "workdir": self.place.workdir,
            "worker_pid": std::process::id(),
            "unit": self.place.standing.unit(),
            "detached_because": self.place.standing.why_detached(),
            "memory_max": self.memory_max().filter(|max| *max != u64::MAX),
            "worker_version": env!("CARGO_PKG_VERSION"),
            "created_at": self.created,
            "memory_bytes": usage.map(|usage| usage.memory_bytes),
            "cpu_seconds": usage.map(|usage| usage.cpu_seconds),
            "running": running,
            "copies": self.copies.mortal(),
            "connection_file": self.place.dir.join("kernel.json"),
            "journal_stalled": self.stalled,
            "sidecar_refused": self.publication.as_ref().and_then(|sidecar| sidecar.refused.as_deref()),
        })
    }

    fn state(&self) -> &'static str {
        match &self.kernel {
            KernelSlot::Dead { .. } => "dead",
            KernelSlot::Absent => "stopped",
            _ if self.kernel.is_loading() => "starting",
            _ if self.running.is_some() => "busy",
            KernelSlot::Running(kernel) if kernel.execution_state == "busy" => "busy",
            _ => "idle",
        }
    }

    fn file_len(&self, name: &str) -> Option<u64> {
        Path::metadata(&self.place.dir.join(name))
            .ok()
            .map(|file| file.len())
    }
}
