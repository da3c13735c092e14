# How every target of podnic is compiled, and how a folder becomes one.

add_library(podnic_flags INTERFACE)
target_compile_options(podnic_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-align
  -Woverloaded-virtual -Wduplicated-cond -Wlogical-op -Wformat=2 -Wimplicit-fallthrough
  -Werror -fstack-protector-strong
  # A designated initializer that leaves a member to its default is meant that way.
  -Wno-missing-field-initializers
  # g++ 12 sees overlapping copies in "literal" + std::string (GCC bug 105329).
  -Wno-restrict
  # g++ 12 takes the temporaries of aggregates with std::string members for uninitialized; clang-tidy looks for real ones.
  -Wno-maybe-uninitialized)
if(CMAKE_UNITY_BUILD) # where files are compiled together, names of one shadow the other's; each by itself has been judged
  target_compile_options(podnic_flags INTERFACE -w)
endif()
target_include_directories(podnic_flags INTERFACE ${PROJECT_SOURCE_DIR})
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(podnic_flags INTERFACE -Wno-unknown-warning-option)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT PODNIC_SANITIZE)
  target_compile_definitions(podnic_flags INTERFACE _FORTIFY_SOURCE=2)
endif()
if(PODNIC_SANITIZE)
  target_compile_options(podnic_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
                         -fno-omit-frame-pointer)
  target_link_options(podnic_flags INTERFACE -fsanitize=address,undefined)
endif()

# podnic_folder(NAME [LOOPS] SOURCES ... [FAST ...] USES ... THIRD_PARTY ...): one folder, one static library `podnic_NAME`.
# USES: folders whose headers this one's headers may include. THIRD_PARTY: linked privately, so that no header of a
# folder can show a third-party type.
# LOOPS: it works again and again for as long as a guest lives. Of all else a process needs most only once: what counts
# there is how much of it has to be brought into memory (ADR 0023). FAST: the files whose work grows with the number of ports.
function(podnic_folder name)
  cmake_parse_arguments(ARG "LOOPS" "" "SOURCES;FAST;USES;THIRD_PARTY" ${ARGN})
  add_library(podnic_${name} STATIC ${ARG_SOURCES})
  target_compile_options(podnic_${name} PRIVATE -ffunction-sections -fdata-sections)
  if(PODNIC_BUILD_FUZZ) # with the coverage that libFuzzer is led by
    target_compile_options(podnic_${name} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
  if(NOT ARG_LOOPS)
    target_compile_options(podnic_${name} PRIVATE $<$<CONFIG:Release>:-Os>)
    set_source_files_properties(${ARG_FAST} PROPERTIES COMPILE_OPTIONS $<$<CONFIG:Release>:-O2>)
  endif()
  list(TRANSFORM ARG_USES PREPEND podnic_)
  target_link_libraries(podnic_${name} PUBLIC ${ARG_USES} PRIVATE $<BUILD_INTERFACE:podnic_flags> ${ARG_THIRD_PARTY})
endfunction()

# podnic_link_program(TARGET OPTIONS...): with everything in it that Debian has as an archive and that a program would spend
# its start to load. libm is wanted for one function of libstdc++. A macro: where a folder's variable says so, both stand
# behind all others.
macro(podnic_link_program target)
  if(NOT PODNIC_SANITIZE)
    set(CMAKE_CXX_STANDARD_LIBRARIES "-l:libstdc++.a -l:libm.a")
    target_link_options(${target} PRIVATE -static-libstdc++ -static-libgcc LINKER:--as-needed ${ARGN})
  endif()
endmacro()
