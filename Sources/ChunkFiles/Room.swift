// ChunkFiles
