// written next
pub struct MemoryEngine;
