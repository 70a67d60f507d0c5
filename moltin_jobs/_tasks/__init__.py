"""Operations in flight."""
