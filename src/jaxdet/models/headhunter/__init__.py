"""HeadHunter (Sundararaman et al. 2021): heads in dense crowds."""
