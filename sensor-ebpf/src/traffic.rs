//! Generators of test traffic: run on live frames (`BPF_PROG_TEST_RUN` with `BPF_F_TEST_XDP_LIVE_FRAMES`), each run sends
//! one packet out of the interface. Not part of the product.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
mod programs {
    use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
    use aya_ebpf::btf_maps::Array;
    use aya_ebpf::helpers::bpf_get_prandom_u32;
    use aya_ebpf::macros::{btf_map, xdp};
    use aya_ebpf::programs::XdpContext;

    /// Offsets in an Ethernet frame with IPv4 and TCP.
    const LENGTH: usize = 14 + 2;
    const ADDRESSES: usize = 14 + 12;
    const PORTS: usize = 14 + 20;
    const NUMBERS: usize = PORTS + 4;
    const FLAGS: usize = PORTS + 13;
    const HEADERS: usize = 14 + 40;

    /// The number of the next packet of `traffic_conversations`.
    #[btf_map]
    static NEXT: Array<u64, 1> = Array::new();

    /// Makes an interface take frames in native mode.
    #[xdp]
    pub fn traffic_pass(_ctx: XdpContext) -> u32 {
        XDP_PASS
    }

    /// Frames that go nowhere.
    #[xdp]
    pub fn traffic_none(_ctx: XdpContext) -> u32 {
        XDP_DROP
    }

    /// The frame as it is.
    #[xdp]
    pub fn traffic_same(_ctx: XdpContext) -> u32 {
        XDP_TX
    }

    /// The frame from an address and port that nobody else has used, but by chance.
    #[xdp]
    pub fn traffic_random_sources(ctx: XdpContext) -> u32 {
        // SAFETY: a helper without arguments.
        let (source, port) = unsafe { (bpf_get_prandom_u32(), bpf_get_prandom_u32()) };
        // A unicast address other than those of this host: 11.0.0.0 to 126.255.255.255.
        let source = (11 << 24) + source % (116 << 24);
        let sent = write(&ctx, ADDRESSES, source.to_be_bytes()) && write(&ctx, PORTS, (port as u16).to_be_bytes());
        if sent { XDP_TX } else { XDP_ABORTED }
    }

    /// The next packet of short TCP conversations with one server, one after the other: SYN, SYN-ACK, ACK, a request, an
    /// answer, FIN, FIN, ACK. The template is a segment from a client to the server; client n is 10.0.0.0 + n.
    #[xdp]
    pub fn traffic_conversations(ctx: XdpContext) -> u32 {
        const FIN: u8 = 1;
        const SYN: u8 = 2;
        const PSH: u8 = 8;
        const ACK: u8 = 16;
        /// From the server?, flags, payload octets, sequence number, acknowledgement number.
        static STEPS: [(bool, u8, u16, u32, u32); 8] = [
            (false, SYN, 0, 100, 0),
            (true, SYN | ACK, 0, 900, 101),
            (false, ACK, 0, 101, 901),
            (false, PSH | ACK, 60, 101, 901),
            (true, PSH | ACK, 60, 901, 161),
            (false, FIN | ACK, 0, 161, 961),
            (true, FIN | ACK, 0, 961, 162),
            (false, ACK, 0, 162, 962),
        ];
        const SERVER: u32 = 0x0a4d_0002;
        const SERVER_PORT: u16 = 443;
        let Some(next) = NEXT.get_ptr_mut(0) else {
            return XDP_ABORTED;
        };
        // SAFETY: an element of the array; one CPU at a time runs this program.
        let number = unsafe {
            *next += 1;
            *next - 1
        };
        let Some(&(from_server, flags, payload, seq, ack)) = STEPS.get(number as usize & 7) else {
            return XDP_ABORTED;
        };
        let client = (11 << 24) + ((number >> 3) as u32 & 0xff_ffff);
        let client_port = 1024 + ((number >> 3) % 60_000) as u16;
        let (addresses, ports) = if from_server {
            (u64::from(SERVER) << 32 | u64::from(client), u32::from(SERVER_PORT) << 16 | u32::from(client_port))
        } else {
            (u64::from(client) << 32 | u64::from(SERVER), u32::from(client_port) << 16 | u32::from(SERVER_PORT))
        };
        let numbers = u64::from(seq) << 32 | u64::from(ack);
        let sent = write(&ctx, LENGTH, ((HEADERS - 14) as u16 + payload).to_be_bytes())
            && write(&ctx, ADDRESSES, addresses.to_be_bytes())
            && write(&ctx, PORTS, ports.to_be_bytes())
            && write(&ctx, NUMBERS, numbers.to_be_bytes())
            && write(&ctx, FLAGS, [flags, 1]);
        if sent { XDP_TX } else { XDP_ABORTED }
    }

    #[inline(always)]
    fn write<const N: usize>(ctx: &XdpContext, offset: usize, octets: [u8; N]) -> bool {
        let at = ctx.data() + offset;
        if at + N > ctx.data_end() {
            return false;
        }
        // SAFETY: inside the packet, as just checked; an array of octets has no alignment.
        unsafe { *(at as *mut [u8; N]) = octets };
        true
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
