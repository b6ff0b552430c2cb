"""Other people's habits over the same engine: `fluxion.dialects.keras`, `fluxion.dialects.knet`."""
