//! Which instruction set the kernels use: detected once per process, or forced by the environment variable `DIVVY_ISA`.

use std::sync::OnceLock;

/// Instruction sets, slowest first. A machine that has one has all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, any processor.
    Portable,
    /// 256-bit f32 with fused multiply-add.
    Avx2,
    /// 512-bit f32, and the bf16 dot products of AVX-512 (`AVX512_BF16`) for products.
    Avx512,
    /// The same with Intel's bf16 matrix tiles for products.
    Amx,
}

/// `DIVVY_ISA` asks for something that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    #[error(
        "DIVVY_ISA=`{0}` is not an instruction set: use portable, avx2, avx512 or amx, or unset it to use the best one found"
    )]
    Unknown(String),
    #[error("DIVVY_ISA={asked:?} is not available on this machine, the best one found is {best:?}: unset DIVVY_ISA")]
    Unavailable { asked: Isa, best: Isa },
}

impl Isa {
    /// The instruction set of this process, decided on the first call.
    ///
    /// # Panics
    /// With [`IsaError`]'s message when `DIVVY_ISA` cannot be honoured; check with [`Isa::from_env`] at start-up.
    pub fn current() -> Isa {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| Isa::from_env().unwrap_or_else(|error| panic!("{error}")))
    }

    /// What `DIVVY_ISA` asks for, or the best one found when it is unset or empty.
    pub fn from_env() -> Result<Isa, IsaError> {
        let asked = std::env::var_os("DIVVY_ISA").map(|value| value.to_string_lossy().into_owned());
        Isa::choose(asked.as_deref(), Isa::detect())
    }

    /// The best instruction set of this machine.
    pub fn detect() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(detect)
    }

    fn choose(asked: Option<&str>, best: Isa) -> Result<Isa, IsaError> {
        let asked = match asked.unwrap_or("").to_ascii_lowercase().as_str() {
            "" => return Ok(best),
            "portable" => Isa::Portable,
            "avx2" => Isa::Avx2,
            "avx512" => Isa::Avx512,
            "amx" => Isa::Amx,
            other => return Err(IsaError::Unknown(other.to_owned())),
        };
        if asked <= best { Ok(asked) } else { Err(IsaError::Unavailable { asked, best }) }
    }

    /// Whether products with bf16 weights round the activations, and the factors of LoRA, to bf16 too (and sum in f32).
    pub fn rounds(self) -> bool {
        self >= Isa::Avx512
    }

    /// Whether kernels for this instruction set may use registers of 512 bits: AMX under the tests' emulator comes without.
    pub(crate) fn has_avx512(self) -> bool {
        self >= Isa::Avx512 && Isa::detect() >= Isa::Avx512
    }

    /// All instruction sets that this machine can run.
    pub fn available() -> impl Iterator<Item = Isa> {
        [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Amx].into_iter().filter(|isa| *isa <= Isa::detect())
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        return Isa::Portable;
    }
    if !crate::avx512::available() {
        return Isa::Avx2;
    }
    if crate::amx::available() { Isa::Amx } else { Isa::Avx512 }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Portable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_or_empty_takes_the_best() {
        assert_eq!(Isa::choose(None, Isa::Avx2), Ok(Isa::Avx2));
        assert_eq!(Isa::choose(Some(""), Isa::Amx), Ok(Isa::Amx));
    }

    #[test]
    fn a_lower_one_can_be_forced_in_any_case() {
        assert_eq!(Isa::choose(Some("portable"), Isa::Amx), Ok(Isa::Portable));
        assert_eq!(Isa::choose(Some("AVX2"), Isa::Amx), Ok(Isa::Avx2));
    }

    #[test]
    fn what_the_machine_lacks_is_refused_with_the_way_out() {
        let error = Isa::choose(Some("amx"), Isa::Avx2).unwrap_err();
        assert_eq!(error, IsaError::Unavailable { asked: Isa::Amx, best: Isa::Avx2 });
        assert!(error.to_string().contains("unset DIVVY_ISA"));
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_valid_ones() {
        let error = Isa::choose(Some("neon"), Isa::Amx).unwrap_err();
        assert!(error.to_string().contains("neon") && error.to_string().contains("avx2"));
    }
}
