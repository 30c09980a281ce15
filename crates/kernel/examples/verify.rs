use aya::programs::*; use aya::*;
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let only = std::env::args().nth(2);
    let verbose = std::env::args().nth(3).is_some();
    let bytes = std::fs::read(path).unwrap();
    let m: u32 = 1023; let seed: u64 = 0x1234_5678_9abc_def1; let servers: u32 = 1024;
    let mut l = EbpfLoader::new();
    l.verifier_log_level(if verbose { VerifierLogLevel::VERBOSE | VerifierLogLevel::STATS } else { VerifierLogLevel::STATS });
    l.override_global("BUCKET_MASK", &m, true).override_global("ENDPOINT_MASK", &m, true)
     .override_global("WIDE_BUCKET_MASK", &m, true).override_global("WIDE_ENDPOINT_MASK", &m, true)
     .override_global("SERVERS_CAPACITY", &servers, true).override_global("SEED", &seed, true);
    for n in ["CONNECTIONS","WIDE_CONNECTIONS","ENDPOINTS","WIDE_ENDPOINTS","SERVICES","SERVERS","RINGS","LOADS"] { l.map_max_entries(n, 1024); }
    for n in ["COUNTERS"] { l.map_max_entries(n, 4096); }
    for n in ["REASONS"] { l.map_max_entries(n, 4); }
    let mut e = l.load(&bytes).unwrap();
    for name in ["evenkeel_xdp","evenkeel_tc","evenkeel_xdp_general","evenkeel_tc_general","evenkeel_xdp_inbound","evenkeel_tc_inbound","evenkeel_xdp_wide_inbound","evenkeel_tc_wide_inbound","evenkeel_xdp_one_packet","evenkeel_tc_one_packet","evenkeel_xdp_outbound","evenkeel_tc_outbound","evenkeel_xdp_wide_outbound","evenkeel_tc_wide_outbound","evenkeel_xdp_choose","evenkeel_tc_choose"] {
        if let Some(o) = &only { if o != name && o != "all" { continue; } }
        let p = e.program_mut(name).unwrap();
        let start = std::time::Instant::now();
        let r = if name.contains("xdp") { let p: &mut Xdp = p.try_into().unwrap(); p.load() } else { let p: &mut SchedClassifier = p.try_into().unwrap(); p.load() };
        match r {
            Ok(()) => { let i = match e.program(name).unwrap() { Program::Xdp(p)=>p.info().unwrap(), Program::SchedClassifier(p)=>p.info().unwrap(), _=>unreachable!() };
                println!("{name}: ok {:?} verified {:?} xlated {:?} jited {}", start.elapsed(), i.verified_instruction_count(), i.size_translated(), i.size_jitted()); }
            Err(ProgramError::LoadError { io_error, verifier_log }) => {
                let log = verifier_log.to_string();
                std::fs::write(format!("/tmp/w/log.{name}"), &log).unwrap();
                let t: Vec<&str> = log.lines().rev().take(12).collect();
                println!("{name}: {io_error}"); for l in t.iter().rev() { println!("   {l}"); } }
            Err(x) => println!("{name}: {x}"),
        }
    }
}
