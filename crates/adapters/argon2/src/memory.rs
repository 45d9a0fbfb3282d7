use std::collections::TryReserveError;

use argon2::Block;

/// The memory of one thread: taken at its first job, then kept, since fresh pages from the kernel cost a tenth of a hash.
#[derive(Debug)]
pub(crate) struct Memory {
    blocks: Vec<Block>,
    kept: usize,
}

impl Memory {
    /// Memory that keeps up to `kept` blocks of 1 KiB between jobs.
    pub(crate) const fn keeping(kept: usize) -> Self {
        Self { blocks: Vec::new(), kept }
    }

    /// Lends `count` blocks. What an old, more expensive hash needs beyond the usual is given back afterwards.
    pub(crate) fn with_blocks<T>(
        &mut self,
        count: usize,
        work: impl FnOnce(&mut [Block]) -> T,
    ) -> Result<T, TryReserveError> {
        if let Some(missing) = count.checked_sub(self.blocks.len()) {
            self.blocks.try_reserve_exact(missing)?;
            self.blocks.resize(count, Block::new());
        }
        let result = work(&mut self.blocks);
        if self.blocks.len() > self.kept {
            self.blocks.truncate(self.kept);
            self.blocks.shrink_to_fit();
        }
        Ok(result)
    }

    #[cfg(test)]
    pub(crate) const fn capacity(&self) -> usize {
        self.blocks.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_taken_at_the_first_job_kept_and_never_more_than_the_usual() {
        let mut memory = Memory::keeping(8);
        assert_eq!(memory.capacity(), 0);
        let first = memory.with_blocks(8, |blocks| (blocks.as_ptr(), blocks.len())).unwrap();
        assert_eq!(first.1, 8);
        assert_eq!(memory.with_blocks(8, |blocks| blocks.as_ptr()).unwrap(), first.0);
        assert_eq!(memory.with_blocks(64, |blocks| blocks.len()).unwrap(), 64);
        assert_eq!(memory.capacity(), 8);
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        let mut memory = Memory::keeping(8);
        assert!(memory.with_blocks(usize::MAX, |_| ()).is_err());
        assert!(memory.with_blocks(8, |_| ()).is_ok());
    }
}
