//! What `cargo xtask bench` holds the kernel programs against: what an empty program, a clock read, a hash lookup and an
//! atomic addition cost, and the accounting itself over flows in random order.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::bindings::xdp_action::XDP_PASS;
    use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuHashMap};
    use aya_ebpf::helpers::bpf_ktime_get_ns;
    use aya_ebpf::macros::{btf_map, xdp};
    use aya_ebpf::programs::XdpContext;
    use sensor_ebpf::account::Adder as _;
    use sensor_ebpf::kernel::atomic::Shared;
    use sensor_ebpf::kernel::blocks::sought;
    use sensor_ebpf::kernel::hooks::account_xdp;

    /// As long as a flow key.
    type Key = [u64; 5];
    /// Packets, octets, last seen, and room up to 96 octets.
    type Value = [u64; 12];

    const KEY: Key = [0, 0xffff_0a00_0001, 0, 0xffff_c000_0201, 6 << 32];
    const ENTRIES: usize = 65_536;
    /// Atomic additions that `bench_atomics` makes.
    const ATOMICS: usize = 32;

    #[btf_map]
    static HASH: HashMap<Key, Value, ENTRIES> = HashMap::new();

    #[btf_map]
    static HASH_PER_CPU: PerCpuHashMap<Key, Value, ENTRIES> = PerCpuHashMap::new();

    #[btf_map]
    static HASH_LRU: LruHashMap<Key, Value, ENTRIES> = LruHashMap::new();

    #[btf_map]
    static LINE: Array<[u64; 8], 1> = Array::new();

    #[xdp]
    pub fn bench_empty(_ctx: XdpContext) -> u32 {
        XDP_PASS
    }

    /// What looking whether there are blocks costs.
    #[xdp]
    pub fn bench_gate(_ctx: XdpContext) -> u32 {
        XDP_PASS + sought()
    }

    #[xdp]
    pub fn bench_clock(_ctx: XdpContext) -> u32 {
        // SAFETY: a helper without arguments.
        let now_ns = unsafe { bpf_ktime_get_ns() };
        // The verdict depends on it, lest the call be removed.
        XDP_PASS + (now_ns >> 63) as u32
    }

    #[xdp]
    pub fn bench_hash(ctx: XdpContext) -> u32 {
        match HASH.get_ptr_mut(KEY) {
            Some(value) => add(value, &ctx),
            None => HASH.insert(KEY, [0; 12], 0).map_or(0, |()| XDP_PASS),
        }
    }

    #[xdp]
    pub fn bench_hash_per_cpu(ctx: XdpContext) -> u32 {
        match HASH_PER_CPU.get_ptr_mut(KEY) {
            Some(value) => add(value, &ctx),
            None => HASH_PER_CPU.insert(KEY, [0; 12], 0).map_or(0, |()| XDP_PASS),
        }
    }

    #[xdp]
    pub fn bench_hash_lru(ctx: XdpContext) -> u32 {
        match HASH_LRU.get_ptr_mut(KEY) {
            Some(value) => add(value, &ctx),
            None => HASH_LRU.insert(KEY, [0; 12], 0).map_or(0, |()| XDP_PASS),
        }
    }

    /// Packets, octets and a time, without atomics.
    #[inline(always)]
    fn add(value: *mut Value, ctx: &XdpContext) -> u32 {
        // SAFETY: an entry of a preallocated map.
        let value = unsafe { &mut *value };
        value[0] += 1;
        value[1] += (ctx.data_end() - ctx.data()) as u64;
        value[2] = value[0];
        XDP_PASS
    }

    #[xdp]
    pub fn bench_atomics(_ctx: XdpContext) -> u32 {
        let Some(line) = LINE.get_ptr_mut(0) else {
            return 0;
        };
        let mut index = 0;
        while index < ATOMICS {
            // SAFETY: one of the eight words of an array element.
            unsafe { Shared::add64(line.cast::<u64>().add(index % 8), 1) };
            index += 1;
        }
        XDP_PASS
    }

    /// What the programs below do apart from accounting.
    #[xdp]
    pub fn bench_rewrite(ctx: XdpContext) -> u32 {
        next_source::<16>(&ctx);
        XDP_PASS
    }

    #[xdp]
    pub fn bench_account_64k(ctx: XdpContext) -> u32 {
        next_source::<16>(&ctx);
        let _ = account_xdp::<true>(&ctx);
        XDP_PASS
    }

    #[xdp]
    pub fn bench_account_1m(ctx: XdpContext) -> u32 {
        next_source::<20>(&ctx);
        let _ = account_xdp::<true>(&ctx);
        XDP_PASS
    }

    /// Turns the packet into that of another of `1 << BITS` sources, each once in a round: a repeated test run goes on
    /// with the packet that the run before left. A linear congruential generator (Knuth, TAOCP 3.2.1.2) has full period.
    #[inline(always)]
    fn next_source<const BITS: u32>(ctx: &XdpContext) {
        /// Of IPv4 addresses behind Ethernet: source and destination, rewritten as one word, lest a load of both have
        /// to wait for a store of one.
        const ADDRESSES: usize = 14 + 12;
        let at = ctx.data() + ADDRESSES;
        if at + 8 > ctx.data_end() {
            return;
        }
        let addresses = at as *mut u64;
        // SAFETY: inside the packet, as just checked.
        unsafe {
            let word = u64::from_be(addresses.read_unaligned());
            let mask = (1 << BITS) - 1;
            let next = ((word >> 32).wrapping_mul(1_664_525) + 1_013_904_223) & mask;
            addresses.write_unaligned((word & !(mask << 32) | next << 32).to_be());
        }
    }
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
