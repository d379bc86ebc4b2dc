//! How many tokens' keys and values an engine holds at once where it is not told: by the machine's free memory, as Linux
//! counts it.

use divvy_kernels::Page;

use crate::cache::{CacheFormat, KvCache};
use crate::config::ModelConfig;

/// As many as half of the memory takes that is free now; any number where the system does not say how much that is.
pub(super) fn of_this_machine(config: &ModelConfig, format: CacheFormat) -> usize {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    available(&meminfo).map_or(usize::MAX, |bytes| of_memory(bytes / 2, config, format))
}

/// A model must be able to answer in its whole context, slowly if need be.
fn of_memory(bytes: usize, config: &ModelConfig, format: CacheFormat) -> usize {
    let pages = bytes / KvCache::page_bytes(config, format);
    (pages * Page::POSITIONS).max(config.context_length)
}

/// `MemAvailable` in bytes: what new work can have without driving others out to disk.
fn available(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_model;

    #[test]
    fn memory_is_read_as_linux_tells_it() {
        let meminfo = "MemTotal:       24689764 kB\nMemAvailable:   17000000 kB\nBuffers:          123456 kB\n";
        assert_eq!(available(meminfo), Some(17_000_000 * 1024));
        for unknown in ["", "MemTotal: 24689764 kB", "MemAvailable: many kB"] {
            assert_eq!(available(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn room_follows_memory_and_is_never_less_than_the_context() {
        let config = tiny_model("tiny-qwen2").config;
        let of = |pages, format| of_memory(pages * KvCache::page_bytes(&config, CacheFormat::F32), &config, format);
        assert_eq!(of(1000, CacheFormat::F32), 1000 * Page::POSITIONS);
        assert_eq!(of(1000, CacheFormat::Bf16), 2000 * Page::POSITIONS);
        assert_eq!(of(0, CacheFormat::F32), config.context_length);
    }
}
