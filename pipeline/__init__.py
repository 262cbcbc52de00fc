"""CLIPSym: reflection axes and rotation centres in photographs (ICCV 2025)."""
