"""Operations on arrays, variables and symbolic tensors."""
