use aya::programs::{TestRun as _, TestRunOptions};
use leuko::source::kernel::{KernelSource, LoadOptions};

#[test]
fn smoke() {
    let mut k = KernelSource::load(LoadOptions { flows: 131072, seed: 1, fixed_ns: None }).unwrap();
    let mut frame = vec![0u8; 64];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45; frame[16..18].copy_from_slice(&[0, 50]); frame[22] = 64; frame[23] = 6;
    frame[26..34].copy_from_slice(&[10,0,0,1,10,0,0,2]);
    frame[34..38].copy_from_slice(&[0x30,0x39,0,80]);
    frame[46] = 0x50; frame[47] = 0x10; frame[48]=1;
    for (name) in ["leuko_ingress", "leuko_egress"] {
        let p = k.classifier(name).unwrap();
        let info = p.info().unwrap();
        println!("{name}: verified {:?} xlated {:?} jited {:?}", info.verified_instruction_count(), info.size_translated(), info.size_jitted());
    }
    let p = k.xdp("leuko_xdp").unwrap();
    let info = p.info().unwrap();
    println!("xdp: verified {:?} xlated {:?} jited {}", info.verified_instruction_count(), info.size_translated(), info.size_jitted());
    for _ in 0..5 {
    let mut o = TestRunOptions::new();
    o.data_in = Some(&frame);
    o.repeat = 1_000_000;
    let r = p.test_run(o).unwrap();
    println!("xdp {r:?}");
    }
    let mut ids = vec![];
    k.poll(|id, s| { ids.push(id); println!("{s:?}") });
    println!("{:?}", k.counters().unwrap());
    let t = std::time::Instant::now();
    k.release(&ids, |_, s| println!("final {} {}", s.half[0].packets, s.half[0].octets)).unwrap();
    println!("release {:?}", t.elapsed());
}
