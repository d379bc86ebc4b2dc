//! Test only: AMX on processors without it. A handler for SIGILL decodes the instruction that trapped, does its work on
//! tiles kept per thread, and moves on. It knows exactly the nine instructions of `kernel.rs` in the forms used there
//! (three-byte VEX, memory as base + index + displacement); anything else gets the default handling, a crash. Like the
//! hardware it refuses tiles that were not configured.

use crate::bf16;
use std::cell::UnsafeCell;
use std::sync::OnceLock;

const ROWS: usize = 16;

/// Tile state of one thread.
struct State {
    rows: [u8; 8],
    bytes_per_row: [u16; 8],
    tiles: [[[u8; 64]; ROWS]; 8],
}

thread_local! {
    static STATE: UnsafeCell<State> =
        const { UnsafeCell::new(State { rows: [0; 8], bytes_per_row: [0; 8], tiles: [[[0; 64]; ROWS]; 8] }) };
}

static INSTALLED: OnceLock<bool> = OnceLock::new();

pub(crate) fn installed() -> bool {
    INSTALLED.get() == Some(&true)
}

/// Installs the handler, once per process.
pub(crate) fn install() -> bool {
    *INSTALLED.get_or_init(|| {
        // SAFETY: a zeroed sigaction is valid; the handler has the signature that SA_SIGINFO asks for.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_illegal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()) == 0
        }
    })
}

extern "C" fn on_illegal(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid context; the state is this thread's own and the trapped code does not use it.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let code = registers[libc::REG_RIP as usize] as *const u8;
        let length = STATE.with(|state| step(&mut *state.get(), code, registers));
        match length {
            Some(length) => registers[libc::REG_RIP as usize] += length as i64,
            None => {
                libc::signal(libc::SIGILL, libc::SIG_DFL);
            }
        }
    }
}

/// The fields of an instruction in the map 0F38 with a three-byte VEX prefix.
struct Decoded {
    /// 0 none, 1 is 66, 2 is F3, 3 is F2
    prefix: u8,
    opcode: u8,
    reg: usize,
    rm: usize,
    vvvv: usize,
    memory: Option<Memory>,
    length: usize,
}

struct Memory {
    start: u64,
    stride: u64,
}

/// Runs one instruction; its length, or nothing when it is none of ours.
///
/// # Safety
/// `code` and the addresses it names are valid.
unsafe fn step(state: &mut State, code: *const u8, registers: &[i64; 23]) -> Option<usize> {
    // SAFETY: the caller's promise.
    unsafe {
        let decoded = decode(code, registers)?;
        match (decoded.opcode, decoded.prefix, &decoded.memory) {
            (0x49, 0, Some(memory)) => state.configure(memory.start as *const u8)?,
            (0x49, 0, None) => state.release(),
            (0x49, 3, None) => state.zero(decoded.reg)?,
            // With and without the hint that the lines need not stay in the first-level cache.
            (0x4b, 3 | 1, Some(memory)) => state.load(decoded.reg, memory)?,
            (0x4b, 2, Some(memory)) => state.store(decoded.reg, memory)?,
            (0x5c, 2, None) => state.multiply(decoded.reg, decoded.rm, decoded.vvvv)?,
            (0x5e, 1, None) => state.multiply_bytes(decoded.reg, decoded.rm, decoded.vvvv)?,
            _ => return None,
        }
        Some(decoded.length)
    }
}

/// # Safety
/// `code` points to an instruction.
unsafe fn decode(code: *const u8, registers: &[i64; 23]) -> Option<Decoded> {
    // SAFETY: reads no further than the instruction's own bytes say.
    let byte = |i: usize| unsafe { *code.add(i) };
    if byte(0) != 0xc4 || byte(1) & 0x1f != 2 || byte(2) & 0x84 != 0 {
        return None; // VEX, map 0F38, W0, 128 bits
    }
    let modrm = byte(4);
    let mut decoded = Decoded {
        prefix: byte(2) & 3,
        opcode: byte(3),
        reg: usize::from(modrm >> 3 & 7),
        rm: usize::from(modrm & 7),
        vvvv: usize::from(!byte(2) >> 3 & 15),
        memory: None,
        length: 5,
    };
    let mode = modrm >> 6;
    if mode == 3 {
        return Some(decoded);
    }
    let extend = |bit: u8| usize::from(!byte(1) >> bit & 1) * 8;
    let register = |number: usize| registers[ORDER[number] as usize] as u64;
    let mut memory = Memory { start: 0, stride: 0 };
    let mut base = decoded.rm;
    if base == 4 {
        let sib = byte(5);
        decoded.length += 1;
        base = usize::from(sib & 7);
        let index = usize::from(sib >> 3 & 7) + extend(6);
        memory.stride = if index == 4 { 0 } else { register(index) << (sib >> 6) };
    }
    if mode == 0 && base == 5 {
        return None; // no base: not used here
    }
    memory.start = register(base + extend(5));
    let displacement = match mode {
        0 => 0,
        1 => i64::from(byte(decoded.length) as i8),
        _ => i64::from(i32::from_le_bytes(std::array::from_fn(|i| byte(decoded.length + i)))),
    };
    decoded.length += [0, 1, 4][usize::from(mode)];
    memory.start = memory.start.wrapping_add_signed(displacement);
    decoded.memory = Some(memory);
    Some(decoded)
}

/// General registers in the order of their encoding.
const ORDER: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

impl State {
    /// # Safety
    /// 64 bytes are readable at `from`.
    unsafe fn configure(&mut self, from: *const u8) -> Option<()> {
        // SAFETY: the caller's promise.
        let bytes = unsafe { from.cast::<[u8; 64]>().read_unaligned() };
        if bytes[0] != 1 || bytes[1..16].iter().any(|byte| *byte != 0) {
            return None;
        }
        for tile in 0..8 {
            self.bytes_per_row[tile] = u16::from_le_bytes([bytes[16 + 2 * tile], bytes[17 + 2 * tile]]);
            self.rows[tile] = bytes[48 + tile];
            if self.bytes_per_row[tile] > 64 || usize::from(self.rows[tile]) > ROWS {
                return None;
            }
        }
        self.tiles = [[[0; 64]; ROWS]; 8];
        Some(())
    }

    fn release(&mut self) {
        (self.rows, self.bytes_per_row) = ([0; 8], [0; 8]);
    }

    /// Rows and bytes of a configured tile.
    fn shape(&self, tile: usize) -> Option<(usize, usize)> {
        let shape = (usize::from(self.rows[tile]), usize::from(self.bytes_per_row[tile]));
        (shape.0 > 0 && shape.1 > 0).then_some(shape)
    }

    fn zero(&mut self, tile: usize) -> Option<()> {
        self.shape(tile)?;
        self.tiles[tile] = [[0; 64]; ROWS];
        Some(())
    }

    /// # Safety
    /// The rows are readable.
    unsafe fn load(&mut self, tile: usize, memory: &Memory) -> Option<()> {
        let (rows, bytes) = self.shape(tile)?;
        self.tiles[tile] = [[0; 64]; ROWS];
        for row in 0..rows {
            let from = memory.start.wrapping_add(row as u64 * memory.stride) as *const u8;
            // SAFETY: the caller's promise.
            unsafe { std::ptr::copy_nonoverlapping(from, self.tiles[tile][row].as_mut_ptr(), bytes) };
        }
        Some(())
    }

    /// # Safety
    /// The rows are writable.
    unsafe fn store(&self, tile: usize, memory: &Memory) -> Option<()> {
        let (rows, bytes) = self.shape(tile)?;
        for row in 0..rows {
            let to = memory.start.wrapping_add(row as u64 * memory.stride) as *mut u8;
            // SAFETY: the caller's promise.
            unsafe { std::ptr::copy_nonoverlapping(self.tiles[tile][row].as_ptr(), to, bytes) };
        }
        Some(())
    }

    /// `TDPBUSD sum, left, right`: unsigned bytes by signed ones, four products to a sum that wraps around (Intel SDM).
    fn multiply_bytes(&mut self, sum: usize, left: usize, right: usize) -> Option<()> {
        let (rows, bytes) = self.shape(sum)?;
        let (_, depth) = self.shape(left)?;
        self.shape(right)?;
        for (row, column) in (0..rows).flat_map(|row| (0..bytes / 4).map(move |column| (row, column))) {
            let product = |at: usize| {
                let signed = self.tiles[right][at / 4][4 * column + at % 4] as i8;
                i32::from(self.tiles[left][row][at]) * i32::from(signed)
            };
            let total = (0..depth).map(product).fold(0, i32::wrapping_add);
            let at = &mut self.tiles[sum][row][4 * column..4 * column + 4];
            let before = i32::from_le_bytes([at[0], at[1], at[2], at[3]]);
            at.copy_from_slice(&before.wrapping_add(total).to_le_bytes());
        }
        Some(())
    }

    /// `TDPBF16PS sum, left, right`: even and odd products of the pairs are summed apart, then joined (Intel SDM).
    fn multiply(&mut self, sum: usize, left: usize, right: usize) -> Option<()> {
        let (rows, bytes) = self.shape(sum)?;
        let (_, depth) = self.shape(left)?;
        self.shape(right)?;
        let half = |line: &[u8; 64], i: usize| bf16::widen(u16::from_le_bytes([line[2 * i], line[2 * i + 1]]));
        for row in 0..rows {
            for column in 0..bytes / 4 {
                let mut parts = [0f32; 2];
                for pair in 0..depth / 4 {
                    for side in 0..2 {
                        let factor = half(&self.tiles[left][row], 2 * pair + side);
                        parts[side] += factor * half(&self.tiles[right][pair], 2 * column + side);
                    }
                }
                let at = &mut self.tiles[sum][row][4 * column..4 * column + 4];
                let before = f32::from_le_bytes([at[0], at[1], at[2], at[3]]);
                at.copy_from_slice(&(before + (parts[0] + parts[1])).to_le_bytes());
            }
        }
        Some(())
    }
}

/// On a processor with AMX nothing traps; so that the emulator is known to work there too, its steps are taken by hand.
#[cfg(test)]
mod tests {
    use super::*;
    use std::arch::asm;

    /// The first instruction of a few that are jumped over.
    macro_rules! code {
        ($($line:literal),*) => {{
            let at: *const u8;
            // SAFETY: nothing runs but the jump.
            unsafe { asm!("lea {at}, [rip + 2f]", "jmp 3f", "2:", $($line,)* "3:", at = out(reg) at) };
            at
        }};
    }

    fn configured() -> State {
        let mut state = State { rows: [0; 8], bytes_per_row: [0; 8], tiles: [[[0; 64]; ROWS]; 8] };
        let mut configuration = [0u8; 64];
        configuration[0] = 1;
        (0..8).for_each(|tile| (configuration[16 + 2 * tile], configuration[48 + tile]) = (64, 16));
        // SAFETY: 64 bytes are there.
        unsafe { state.configure(configuration.as_ptr()) }.unwrap();
        state
    }

    #[test]
    fn loads_with_and_without_the_hint_and_products_of_bytes() {
        let memory: Vec<u8> = (0..ROWS * 64).map(|i| (i % 251) as u8).collect();
        let mut registers = [0i64; 23];
        registers[libc::REG_RDI as usize] = memory.as_ptr() as i64;
        registers[libc::REG_RSI as usize] = 64;
        let mut state = configured();
        let mut code = code!(
            "tileloadd tmm1, [rdi + rsi]",
            "tileloaddt1 tmm2, [rdi + rsi]",
            "tdpbusd tmm0, tmm1, tmm2",
            "tdpbusd tmm0, tmm1, tmm2"
        );
        for _ in 0..4 {
            // SAFETY: the registers name the memory above.
            code = code.wrapping_add(unsafe { step(&mut state, code, &registers) }.unwrap());
        }
        let flat = |tile: usize| state.tiles[tile].as_flattened();
        assert!(flat(1) == memory && flat(2) == memory);
        let sum = |row: usize, column: usize| -> i32 {
            let product = |at: usize| {
                i32::from(memory[row * 64 + at]) * i32::from(memory[at / 4 * 64 + 4 * column + at % 4] as i8)
            };
            2 * (0..64).map(product).sum::<i32>()
        };
        for (row, column) in (0..16).flat_map(|row| (0..16).map(move |column| (row, column))) {
            let found: [u8; 4] = state.tiles[0][row][4 * column..][..4].try_into().unwrap();
            assert_eq!(i32::from_le_bytes(found), sum(row, column), "[{row}, {column}]");
        }
        let other = code!("nop");
        // SAFETY: as above.
        assert!(unsafe { step(&mut state, other, &registers) }.is_none());
    }
}
